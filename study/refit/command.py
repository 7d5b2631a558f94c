"""Train a sweep's winner on everyone, and write a model that tells ages: `study.predict` and MLflow use it.

`--best` takes the newest finished sweep; of the winners of several blocks one is chosen by what the sweep itself
recorded (docs/model.md). The error to expect, and the intervals, come from the LOPO result of the same sweep. After an
interruption the same command trains only the missing seeds; with nothing to do it says so. `--checkpoint` makes a model
of a pretrained network as it is.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict

from study.artifacts.brands import branded
from study.artifacts.model import Measured, ModelRecord
from study.cli.describe import describe, flat
from study.cli.options import home
from study.cluster.placing import Unit, check_room, gpu_share
from study.files.locks import hold
from study.model.place import NAME
from study.refit.folder import standing_model, trained_before, write_model
from study.refit.measure import find_measured
from study.refit.options import Refit
from study.refit.plan import content_key, make_plan
from study.refit.ray_tasks import train_seeds
from study.refit.untuned import take_untuned
from study.refit.verdict import conclude, say_start
from study.tracking import runs as tracking
from study.tracking.models import registered_version


def refit(options: Refit) -> int:
    """Train what is missing, then write, log and register the model; returns the exit status."""
    options.refuse_conflicts()
    store = tracking.connect()
    measured: Measured | None
    if options.checkpoint:
        plan, measured = take_untuned(options, options.checkpoint)
    else:
        plan = make_plan(options, store)
        measured = find_measured(store, plan)
    say_start(plan, measured)
    out = options.out or home(plan.faces.datasets) / "models"
    device = "cuda" if options.gpus_per_seed else "cpu"
    if options.gpus_per_seed is None and not plan.untuned:  # only Ray knows whether there are GPUs
        options.ray.start()
        device = "cuda" if gpu_share(None) else "cpu"
    training = plan.training_key(device)
    content = content_key(training, asdict(measured) if measured else None, plan)
    folder, waiting = out / training, out / ".training" / training
    with hold(out, training):
        record: ModelRecord | None = standing_model(folder, training)
        version = registered_version(store, NAME, content) if options.register else None
        if record and record.content == content and (version or not options.register):
            print(f"Nothing to do: {folder} is this model" + (f", registered as {version}" if version else ""))
            return 0
        parent = tracking.find_or_start(
            store,
            key=f"refit-{content}",
            name=branded(f"refit {plan.name}", plan.brand),
            stage="refit",
            params=flat(plan.config) | {"seeds": plan.seeds, "faces": ", ".join(plan.faces.datasets)},
            tags={"study.brand": plan.brand or "none"},
        )
        if record is None or record.content != content:
            if plan.untuned:
                states = [dict(plan.untuned.state)]
            elif record is None:
                options.ray.start()
                share = gpu_share(options.gpus_per_seed)
                unit = Unit("training", options.cpus_per_seed, share, "--cpus-per-seed and --gpus-per-seed")
                check_room(unit, joined=options.ray.joins)
                states = train_seeds(plan, waiting, unit, joined=options.ray.joins)
            else:
                print(f"The trainings are kept: {describe(plan.config)}", flush=True)
                states = trained_before(folder, record)
            print("Exporting to ONNX and comparing it with torch ...", flush=True)
            record = write_model(folder, plan, states, training=training, content=content, measured=measured)
            shutil.rmtree(waiting, ignore_errors=True)
        conclude(store, parent, record, folder, register=options.register)
    return 0
