"""A trained model that tells the age of every face in a photo.

from study.model import load_model

model = load_model("runs/models/0a1b2c3d4e5f")      # or models:/facial-age@champion, or nothing: the newest
model.predict(["photo.jpg", array])                 # a pandas DataFrame with a row for each face
"""

from study.model.ages import AgeModel
from study.model.place import load_model

__all__ = ["AgeModel", "load_model"]
