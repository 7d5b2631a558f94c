"""Tell the age of every face in photos, with intervals of 80 and 95 %.

    python -m study.predict photo.jpg
    python -m study.predict folder s3://bucket/photos --csv ages.csv --draw drawn

A photo without a face, or one that cannot be read, is a row with its reason. The exit status is 0 where at least one
face got an age. Not for deciding anything about a person: see the model's README.md.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from study.model.ages import AgeModel, model_files
from study.model.place import describe_model, fetch_model, find_model, model_folder
from study.model.rows import FaceAge
from study.predict.draw import draw_photos
from study.predict.options import Predict, refuse
from study.predict.output import as_json, as_text, count, write_csv, write_parquet
from study.predict.photos import Named, list_photos
from study.predict.run import predict_named


def predict(options: Predict) -> int:
    """Predict all photos and write what was asked for; returns the exit status."""
    refuse(options)
    photos = list_photos(options.photos)
    place = options.model or find_model()
    with tempfile.TemporaryDirectory() as fetched:
        registered = place.startswith("models:/")
        folder = fetch_model(place, Path(fetched)) if registered else model_folder(place)
        place = place if registered else str(folder)
        files = model_files(folder)
        model = AgeModel(files, where=place)
        print("\n".join(describe_model(model.record, place)), file=sys.stderr, flush=True)
        if len(photos) < options.ray_from:
            rows = predict_named(model, photos)
        else:
            from study.predict.ray_data import predict_many  # only here: Ray takes seconds to import

            rows = predict_many(photos, files, where=place, address=options.address, workers=options.workers)
        write(options, photos, rows)
        if options.explain is not None:
            from study.predict.explain import explain_photos  # only here: torch takes seconds to import

            explain_photos(photos, model, folder, options.explain)
    return 0 if any(row.age is not None for row in rows) else 1


def write(options: Predict, photos: list[Named], rows: list[FaceAge]) -> None:
    """Print the rows, and write them where asked."""
    print(as_json(rows) if options.json else as_text(rows), flush=True)
    if options.csv is not None:
        write_csv(options.csv, rows)
    if options.parquet is not None:
        write_parquet(options.parquet, rows)
    for file in [file for file in (options.csv, options.parquet) if file is not None]:
        print(f"Written: {file}", file=sys.stderr)
    if options.draw is not None:
        drawn = list(draw_photos(photos, rows, options.draw))
        names = str(drawn[0]) if len(drawn) == 1 else f"{len(drawn)} photos in {options.draw}"
        if drawn:
            print(f"Drawn: {names}", file=sys.stderr)
    print(count(rows), file=sys.stderr, flush=True)
