"""One photo to one aligned face. No Ray, no disk but the landmarkers' weights."""
