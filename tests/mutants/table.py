"""The mutants: ways to break what the study promises, each with the tests that must notice."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """In `file`, `instead` of `text`, which stands there once; tests: pytest's names of those that must notice."""

    name: str
    file: str
    text: str
    instead: str
    tests: tuple[str, ...]


PROMISE, FOLDS, TREE = "tests/commands/test_promise.py", "tests/test_folds.py", "tests/lopo/test_tree.py"
TRAINING, SWEEP, STATISTICS = (
    "tests/trainables/test_training.py",
    "tests/sweep/test_sweep.py",
    "tests/statistics/test_statistics.py",
)
FROZEN, CHOICE, ALIGN = "tests/trainables/test_frozen.py", "tests/sweep/test_choice.py", "tests/align/test_align.py"
STARTS, CONVOLUTIONS = "tests/test_starts.py", "tests/trainables/test_convolutions.py"

LEARNS = f"{PROMISE}::test_a_fold_learns_nothing_of_the_person_it_tests"
KEYS = f"{PROMISE}::test_a_finished_fold_is_used_again_for_the_very_same_work_alone"
STEP = f"{TRAINING}::test_one_step_is_the_one_written_by_hand"
EITHER = f"{TRAINING}::test_a_test_averages_a_face_and_its_mirror_image_and_ignores_other_faces"
DIGEST = f"{PROMISE}::test_a_tables_digest_names_all_that_a_training_sees"
SEARCH = "tests/sweep/test_search.py"
LAG = f"{SEARCH}::test_a_trial_knows_nothing_of_those_that_ended_less_than_a_lag_before"

MUTANTS = (
    # convolutions of our own
    Mutant(
        "a part of a kernel ends a column early", "trainables/convolutions.py",
        "end = min(start + COLUMNS, right)", "end = min(start + COLUMNS, right) - (start > left)",
        (f"{CONVOLUTIONS}::test_the_weight_gradient_is_pytorchs",),
    ),
    Mutant(
        "columns that see the picture are left out", "trainables/convolutions.py",
        "return max(0, padding - (out - 1) * stride), min(kernel, padding + size)",
        "return max(0, padding - (out - 1) * stride), min(kernel, size)",
        (f"{CONVOLUTIONS}::test_the_weight_gradient_is_pytorchs",),
    ),
    Mutant(
        "a small convolution's pixels are in another order", "trainables/convolutions.py",
        "permute(0, 1, 2, 4, 5, 3).flatten(3)", "permute(0, 1, 2, 5, 4, 3).flatten(3)",
        (f"{CONVOLUTIONS}::test_other_layers_learn_as_before",),
    ),
    # who is tested on what
    Mutant(
        "a fold trains on its tested person", "trainables/fold.py",
        "fitted = _train(config, faces, initial, train, threads, device)",
        "fitted = _train(config, faces, initial, np.concatenate([train, test]), threads, device)",
        (LEARNS,),
    ),
    Mutant(
        "a fold's rows hold its tested person", "study/folds.py",
        "np.flatnonzero(faces.person != name)", "np.arange(len(faces))",
        (f"{FOLDS}::test_each_person_is_left_out_once_with_all_photos",),
    ),
    Mutant(
        "a trial trains on its test rows", "trainables/trial.py",
        "fit(config, source, train, measure", "fit(config, source, np.concatenate([train, test]), measure",
        (f"{PROMISE}::test_a_trial_learns_nothing_of_the_people_that_it_is_scored_on",),
    ),
    Mutant(
        "folds over people share people", "study/folds.py",
        "np.flatnonzero(among & ~t)", "np.flatnonzero(among)",
        (f"{FOLDS}::test_person_folds_separate_people_and_cover_all",),
    ),
    Mutant(
        "folds over people are split by photo", "study/folds.py",
        "among & np.isin(faces.person, group)", "among & (np.arange(len(faces)) % folds == groups.index(group))",
        (f"{FOLDS}::test_person_folds_separate_people_and_cover_all",),
    ),
    Mutant(
        "a block chooses on its own people", "study/sweep/selection.py",
        "seed=seed, rows=fold.train)", "seed=seed)",
        (f"{SWEEP}::test_blocks_cover_everyone_once_and_never_choose_on_their_own",),
    ),
    Mutant(
        "a dev part is split by photo where people are known", "study/folds.py",
        'np.where(faces.person != "", faces.person, faces.content)', "faces.content",
        ("tests/trainables/test_streaming.py::test_a_dev_split_of_an_index_keeps_people_and_twins_together",),
    ),
    Mutant(
        "a pretraining trains on its dev part", "study/pretrain/command.py",
        "plan.index, split.train, split.test,", "plan.index, plan.index.age.argsort(), split.test,",
        (f"{PROMISE}::test_a_pretraining_learns_nothing_of_its_dev_part",),
    ),
    Mutant(
        "a tree's node trains on whom it holds out", "study/lopo/tree.py",
        "for person in other]", "for person in held]",
        (f"{TREE}::test_no_node_sees_whom_it_holds_out",),
    ),
    Mutant(
        "a tree replays photos of people held out", "study/lopo/tree.py",
        "np.flatnonzero(~np.isin(faces.person, held))", "np.arange(len(faces))",
        (f"{TREE}::test_no_node_sees_whom_it_holds_out",),
    ),
    Mutant(
        "a tree's leaf starts from its own test's half", "study/lopo/ray_tasks.py",
        "states[node.parent]", "states[-1]",
        (f"{TREE}::test_each_leaf_descends_from_nodes_that_never_saw_its_person",),
    ),
    Mutant(
        "frozen features depend on the other faces", "trainables/frozen/cut.py",
        "    net.eval()\n", "    net.train()\n",
        (f"{FROZEN}::test_a_faces_features_depend_on_it_alone",),
    ),
    Mutant(
        "a tested face's answer depends on the other faces", "trainables/fitting.py",
        "    net.eval()\n", "    net.train()\n",
        (EITHER, LEARNS),
    ),
    # which config, and what is taken for finished
    Mutant(
        "everybody is tested with the last block's config", "study/lopo/plan.py",
        "self.trials.get(person, self.trials.get(None))", "list(self.trials.values())[-1]",
        (f"{PROMISE}::test_everybody_is_tested_with_the_config_that_their_own_block_chose",),
    ),
    Mutant(
        "an unsealed choice passes for sealed", "study/lopo/plan.py",
        '{SEALED[best.select]}" if best.sealed else UNSEALED', '''{SEALED['blocks']}"''',
        (f"{PROMISE}::test_a_choice_that_was_not_sealed_is_called_optimistic",),
    ),
    Mutant("LOPO's key lacks the code", "study/lopo/jobs.py", '"code": code_version(),', "", (KEYS,)),
    Mutant("LOPO's key lacks the faces", "study/lopo/jobs.py", '"faces": faces.digest,', "", (KEYS,)),
    Mutant("LOPO's key lacks the schedule", "study/lopo/jobs.py", '"schedule": schedule.made_from,', "", (KEYS,)),
    Mutant(
        "LOPO's key lacks the starting weights", "study/lopo/jobs.py",
        '"weights": starts[config.backbone, config.weights].digest', '"weights": ""', (KEYS,),
    ),
    Mutant(
        "further seeds are the first once more", "study/lopo/jobs.py",
        "seed=config.seed + step", "seed=config.seed", (KEYS,),
    ),
    Mutant(
        "lopo: no check that tested photos lie apart", "study/lopo/plan.py",
        "check_apart(plan.apart_from, folders)", "pass",
        (f"{PROMISE}::test_a_sweeps_winner_is_not_tested_on_other_faces_than_it_was_sealed_for",),
    ),
    Mutant(
        "sweep: no check that tested photos lie apart", "study/sweep/command.py",
        "check_apart(folders, tested)", "pass",
        (f"{PROMISE}::test_a_config_is_not_chosen_on_data_that_holds_the_tested_photos",),
    ),
    Mutant(
        "lopo: no check that faces are those of the sweep", "study/lopo/plan.py",
        "plan.faces_digest not in (None, faces.digest)", "False",
        (f"{PROMISE}::test_a_sweeps_winner_is_not_tested_on_other_faces_than_it_was_sealed_for",),
    ),
    Mutant(
        "sweep: no check what a checkpoint saw", "study/sweep/plan.py",
        "check_never_seen(start, faces, block)", "pass",
        (f"{SWEEP}::test_a_start_that_learned_from_the_dev_part_is_refused",),
    ),
    # whom a network learned from, and which weights it has
    Mutant(
        "an overlap is not refused", "study/starts.py",
        "if (seen or known or alike) and not allowed.allow_overlap:", "if False:",
        (f"{STARTS}::test_nobody_is_tested_by_a_network_that_learned_from_them",),
    ),
    Mutant(
        "a copy of a tested photo is not refused", "study/starts.py",
        "if (seen or known or alike) and not allowed.allow_overlap:",
        "if (seen or known) and not allowed.allow_overlap:",
        (f"{STARTS}::test_a_copy_of_a_tested_photo_is_an_overlap_and_is_named",),
    ),
    Mutant(
        "faces of another coverage are not refused", "study/starts.py",
        "if start.coverage not in (None, coverage) and not", "if False and not",
        (f"{STARTS}::test_a_network_of_one_coverage_is_refused_for_faces_of_another_unless_asked_for",),
    ),
    Mutant(
        "the loss of rare ages is not reweighted", "trainables/fitting.py",
        "(each if by_age is None else each * by_age[age]).mean()", "each.mean()",
        ("tests/trainables/test_rare.py::test_a_reweighted_step_is_the_weighted_mean_of_the_faces_losses",),
    ),
    Mutant(
        "an overlap by person is not seen", "study/starts.py",
        'tested.people.intersection(start.photos["person"].to_pylist())', "set()",
        (f"{STARTS}::test_another_photo_of_a_tested_person_is_an_overlap_too",),
    ),
    Mutant(
        "what is not recorded passes for compared", "study/starts.py",
        '"unknown" if unknown else "apart"', '"apart"',
        (f"{STARTS}::test_what_was_not_compared_is_not_claimed",),
    ),
    Mutant(
        "a checkpoint forgets its ancestors' photos", "study/pretrain/verdict.py",
        "merge_photos([job.start.photos, photos])", "photos",
        (f"{PROMISE}::test_a_checkpoint_remembers_what_its_start_learned_from",),
    ),
    Mutant(
        "synthetic pretraining is taken for real faces", "study/starts.py",
        "if synthetic and not allowed.allow_synthetic:", "if False:",
        (f"{STARTS}::test_a_checkpoint_of_synthetic_faces_is_refused_for_real_ones_unless_asked_for",),
    ),
    Mutant(
        "weights are known by their names", "trainables/provenance.py",
        "digest.update(flat.view(torch.uint8).numpy().data)", "pass",
        (f"{STARTS}::test_the_digest_of_tensors_sees_names_kinds_shapes_and_values",),
    ),
    Mutant(
        "a replaced checkpoint is believed", "trainables/checkpoints.py",
        "if found != expected:", "if False:",
        (f"{STARTS}::test_a_checkpoint_whose_files_were_exchanged_is_refused",),
    ),
    Mutant(
        "lopo: weights replaced since the sweep are used", "study/lopo/plan.py",
        "if chosen != start.digest:", "if False:",
        (f"{STARTS}::test_weights_are_known_by_content_wherever_they_lie",),
    ),
    Mutant(
        "the code's version knows one file alone", "trainables/__init__.py",
        'sorted(folder.rglob("*.py"))', '[folder / "losses.py"]',
        (f"{STARTS}::test_any_changed_source_of_what_is_learned_is_another_code",),
    ),
    Mutant("LOPO's key lacks the sweep", "study/lopo/jobs.py", "*plan.sweep, ", "", (
        f"{PROMISE}::test_a_result_is_not_replaced_by_one_of_the_same_config_that_was_chosen_in_another_way",
    )),
    Mutant("LOPO's key lacks the device", "study/lopo/jobs.py", '"device": schedule.device,', "", (KEYS,)),
    Mutant(
        "a brand is not shown", "study/report/sections.py",
        "branded(name_of(each.about), each.about.brand)", "name_of(each.about)",
        ("tests/report/test_report.py::test_a_brand_stands_wherever_the_result_does",),
    ),
    # files are checked when read
    Mutant(
        "a finished fold is believed", "study/lopo/jobs.py",
        "        _check_fold(job, faces, part, record)\n", "",
        ("tests/lopo/test_kept_folds.py",),
    ),
    Mutant(
        "a journal's trial is not compared with what is asked", "study/sweep/search.py",
        "config.flat())\n        if differ:\n", "config.flat())\n        if False:\n",
        ("tests/sweep/test_journal.py::test_a_range_that_was_widened_is_seen_before_the_sampler_is_told_of_it",),
    ),
    # the search
    Mutant(
        "lag is ignored", "study/sweep/search.py",
        "or not self._tell_up_to(number - self.lag)", "or not self._tell_up_to(number - 1)", (LAG,),
    ),
    Mutant(
        "a rival from the future", "study/sweep/search.py",
        "for number in range(self.told)}", "for number in self.journal}", (LAG,),
    ),
    Mutant(
        "a peer asked later is a rival", "study/sweep/search.py",
        "for other in range(begun.knew, number):", "for other in sorted(k for k, r in self.begun if k != number):",
        (f"{SEARCH}::test_a_peer_asked_later_is_no_rival",),
    ),
    Mutant(
        "a fold that ran side by side for nothing counts", "study/sweep/search.py",
        "for fold in range(begun.passed + 1)]  # others", "for fold in sorted(begun.parts)]  # others",
        (f"{SEARCH}::test_folds_that_ran_for_nothing_do_not_count",),
    ),
    Mutant(
        "a trial is pruned for being better", "trainables/trial.py",
        'alternative="greater"', 'alternative="two-sided"',
        (f"{SWEEP}::test_the_paired_test_ends_a_trial_for_being_worse_and_never_for_being_better",),
    ),
    Mutant(
        "spending by cost: the dearest come first", "study/sweep/shares.py",
        "for _, _, network, cost in sorted(found)]", "for _, _, network, cost in sorted(found, reverse=True)]",
        ("tests/sweep/test_shares.py::test_networks_that_are_as_good_get_the_same_compute_the_cheapest_first",),
    ),
    Mutant(
        "spending by cost: nobody is given up", "study/sweep/shares.py",
        "    if len(mine) < LEAST:\n", "    if True:\n",
        ("tests/sweep/test_shares.py::test_networks_that_only_fail_are_given_up",),
    ),
    Mutant(
        "spending by cost: a journal's network is believed", "study/sweep/search.py",
        "return known if could_be(order, known) else order[0].network", "return known",
        ("tests/sweep/test_shares.py::test_a_journal_with_a_network_out_of_its_turn_is_refused",),
    ),
    Mutant(
        "a network that was not tried passes for tried", "study/sweep/shares.py",
        'fate: Fate = "none" if not scored else', "fate: Fate =",
        ("tests/sweep/test_shares.py::test_networks_that_only_fail_are_given_up",),
    ),
    Mutant(
        "finalists: further seeds do not count", "study/sweep/finalists.py",
        "sure += _by_decoder([tried, *again], photos)", "sure += _by_decoder([tried], photos)",
        (f"{CHOICE}::test_finalists_are_decided_by_the_mean_over_seeds",),
    ),
    Mutant(
        "optimism is judged on the people drawn", "study/sweep/optimism.py",
        "np.where(drawn == 0, times, 0.0)", "np.where(drawn != 0, times, 0.0)",
        (f"{CHOICE}::test_the_corrected_error_is_nearer_the_truth_than_the_least",),
    ),
    # the training
    Mutant(
        "averaged weights are ignored", "trainables/fitting.py",
        "if average is None:\n        return net", "if True:\n        return net",
        (f"{TRAINING}::test_averaged_weights_are_the_average_of_every_steps",),
    ),
    Mutant(
        "the average forgets nothing of the start", "trainables/fitting.py",
        "min(config.ema, (1 + step) / (10 + step))", "config.ema",
        (f"{TRAINING}::test_averaged_weights_are_the_average_of_every_steps",),
    ),
    Mutant("gradients are not clipped", "trainables/fitting.py", "if config.clip:", "if False:", (STEP,)),
    Mutant(
        "ages above 100 are not clamped", "trainables/fitting.py",
        "age.clamp(max=config.ages - 1)", "age % config.ages", (STEP,),
    ),
    Mutant("the rate never changes", "trainables/fitting.py", "* rate_factor(config, step, total)", "", (STEP,)),
    Mutant("warm-up is dropped", "trainables/fitting.py", "config.warmup * total", "0", (STEP,)),
    Mutant(
        "weight decay on biases and norms", "trainables/fitting.py",
        "parameter.ndim > 1 and name not in spared", "name not in spared", (STEP,),
    ),
    Mutant("mirror views are ignored", "trainables/fitting.py", 'config.views == "face+mirror"', "False", (EITHER,)),
    Mutant(
        "the seed of the first weights is ignored", "trainables/fitting.py",
        "torch.manual_seed(config.seed)", "torch.manual_seed(0)",
        (f"{TRAINING}::test_the_seed_decides_the_initial_weights_as_torchs_seed_does",),
    ),
    Mutant(
        "the first weights are not seeded", "trainables/fitting.py",
        "torch.manual_seed(config.seed)", "pass",
        (f"{TRAINING}::test_the_seed_decides_the_initial_weights_as_torchs_seed_does",),
    ),
    Mutant(
        "dropout is not seeded", "trainables/fitting.py",
        "torch.manual_seed(_step_seed(config.seed, step, source.rank))", "pass",
        (f"{TRAINING}::test_every_step_worker_and_seed_drops_other_units",),
    ),
    Mutant(
        "dropout is the same at every step", "trainables/fitting.py",
        "_step_seed(config.seed, step, source.rank)", "_step_seed(config.seed, 0, source.rank)",
        (f"{TRAINING}::test_every_step_worker_and_seed_drops_other_units",),
    ),
    Mutant(
        "every epoch has one order", "trainables/faces/batches.py",
        "default_rng([seed, epoch])", "default_rng([seed, 0])",
        (f"{TRAINING}::test_no_epoch_repeats_another_ones_batches_or_changes",),
    ),
    Mutant(
        "every epoch has one augmentation", "trainables/faces/batches.py",
        "default_rng([seed, epoch, step])", "default_rng([seed, 0, step])",
        (f"{TRAINING}::test_no_epoch_repeats_another_ones_batches_or_changes",),
    ),
    Mutant(
        "pixels are not normalised as in pretraining", "trainables/backbones.py",
        "(pixels.float() - self.mean) / self.std", "pixels.float() / 255",
        ("tests/trainables/test_backbones.py::test_pixels_are_normalised_as_in_pretraining",),
    ),
    Mutant(
        "the median is a year late at a tie", "trainables/losses.py",
        "cumsum(dim=1) < 0.5", "cumsum(dim=1) <= 0.5", ("tests/trainables/test_losses.py::test_decoders",),
    ),
    # figures and their uncertainty
    Mutant(
        "CS counts errors below the threshold alone", "study/statistics/summary.py",
        "np.abs(each)[:, None] <= np.array(THRESHOLDS", "np.abs(each)[:, None] < np.array(THRESHOLDS",
        (f"{STATISTICS}::test_an_error_of_exactly_five_years_is_within_five",),
    ),
    Mutant(
        "intervals are not expanded", "study/statistics/bootstrap.py",
        " * math.sqrt(people / (people - 1))", "",
        (f"{STATISTICS}::test_intervals_of_eight_people_are_as_long_as_students",),
    ),
    Mutant(
        "intervals take the normal quantile", "study/statistics/bootstrap.py",
        "stdtrit(people - 1, (1 + level) / 2)", "ndtri((1 + level) / 2)",
        (f"{STATISTICS}::test_intervals_of_eight_people_are_as_long_as_students",),
    ),
    Mutant(
        "Holm's correction is dropped", "study/statistics/summary.py",
        "* np.arange(len(p), 0, -1)", "", (f"{STATISTICS}::test_holm_agrees_with_its_definition",),
    ),
    Mutant(
        "a finding ignores Holm's correction", "study/statistics/summary.py",
        "return self.holm <=", "return self.p <=",
        (f"{STATISTICS}::test_a_difference_is_not_decided_by_a_test_that_many_comparisons_undo",),
    ),
    Mutant(
        "calibration: CRPS counts the true age as missed", "study/statistics/calibration.py",
        "(age[:, None] <= np.arange(top))", "(age[:, None] < np.arange(top))",
        ("tests/statistics/test_calibration.py::test_crps_is_the_energy_form",),
    ),
    Mutant(
        "a pretrained network as it is is measured on what it learned from", "study/refit/untuned.py",
        "tested = faces.take(unseen)", "tested = faces",
        ("tests/refit/test_untuned.py::test_it_has_the_checkpoints_weights_and_its_error_on_what_that_left_out",),
    ),
    Mutant(
        "a fold of another training is taken over", "study/lopo/jobs.py",
        '"seed": job.config.seed, "fingerprint": job.key}', '"seed": job.config.seed}',
        ("tests/lopo/test_kept_folds.py::test_a_fold_of_another_training_is_left_where_it_is",),
    ),
    # the data
    Mutant(
        "a table lies in the order of its names", "study/align/shards.py",
        "order = sorted(range(listing.num_rows), key=hashes.__getitem__)", "order = list(range(len(hashes)))",
        ("tests/align/test_shards.py::test_a_shard_is_like_the_whole_table_and_not_of_one_age",),
    ),
    Mutant(
        "as few faces of a sorted table are shuffled together as of another", "trainables/faces/windows.py",
        "return next((faces for faces in sizes if apart(index, faces) <= APART), MOST)", "return USUAL",
        ("tests/trainables/test_windows.py::test_no_part_of_an_epoch_is_of_other_ages_than_the_whole",),
    ),
    Mutant(
        "an epoch ends with a few faces", "trainables/faces/windows.py",
        "return -(-self.steps // -(-self.steps // most))", "return most",
        ("tests/trainables/test_windows.py::test_windows_are_of_near_equal_size",),
    ),
    Mutant(
        "duplicates of conflicting ages are kept", "study/align/listing.py",
        'if len({row["age"] for _, row in group}) > 1:', "if False:",
        (f"{ALIGN}::test_every_photo_is_a_face_or_a_reject_with_its_reason",),
    ),
    Mutant(
        "IMDB's ages are differences of years", "study/align/datasets/imdbwiki.py",
        "- (born.month >= 7)", "", ("tests/align/test_imdbwiki.py::test_age_is_that_of_mid_year",),
    ),
    Mutant(
        "a table's digest lacks the ages", "trainables/faces/table.py",
        "json.dumps([photo, person, age, face_sha256, photo_sha256])",
        "json.dumps([photo, person, face_sha256, photo_sha256])",
        (DIGEST,),
    ),
    Mutant(
        "a table's digest lacks the pixels", "trainables/faces/table.py",
        "json.dumps([photo, person, age, face_sha256, photo_sha256])", "json.dumps([photo, person, age, photo_sha256])",
        (DIGEST,),
    ),
)  # fmt: skip
