"""Plants known bugs into a copy of the source and runs the tests that must notice: none may survive.

`python -m tests.mutations` prints one line a mutant; `python -m tests.mutations grl_sign mcc_temperature` runs some. A
mutation is a file, a piece of text that stands in it exactly once, and what takes its place. When the code changes so
that the text is gone, the script says so: a mutation that changes nothing would count as noticed by no test.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Mutation:
    """A bug: `old` in `path` (below `src/isthmus/adapt`) becomes `new`; `tests` (below `tests`) must fail."""

    path: str
    old: str
    new: str
    tests: tuple[str, ...]


CONTRACT = "contract/test_methods.py"
MUTATIONS = {
    "grl_sign": Mutation("layers.py", "return -ctx.weight *", "return ctx.weight *", ("adapt/test_layers.py",)),
    "grl_weight_lost": Mutation("layers.py", "-ctx.weight * gradients[0]", "-gradients[0]", ("adapt/test_layers.py",)),
    "grl_schedule_sign": Mutation("schedules.py", "math.exp(-10.0", "math.exp(10.0", ("adapt/test_layers.py",)),
    "coral_without_4d2": Mutation("distances.py", " / (4.0 * source.shape[1] ** 2)", "", ("adapt/test_distances.py",)),
    "coral_biased_covariance": Mutation(
        "distances.py", "centred / (len(rows) - 1)", "centred / len(rows)", ("adapt/test_distances.py",)
    ),
    "mmd_biased": Mutation(
        "distances.py",
        "(kernel[:m, :m].sum() - kernel[:m, :m].diagonal().sum()) / (m * (m - 1))",
        "kernel[:m, :m].sum() / (m * m)",
        ("adapt/test_distances.py",),
    ),
    "mmd_bandwidth_not_detached": Mutation(
        "distances.py", "squared.detach().sum()", "squared.sum()", ("adapt/test_distances.py",)
    ),
    "mmd_source_detached": Mutation(
        "distances.py",
        "rows = _full(torch.cat([source, target]))",
        "rows = _full(torch.cat([source.detach(), target]))",
        ("adapt/test_distances.py",),
    ),
    "dann_source_features_detached": Mutation(
        "methods/dann.py",
        "reverse_gradient(outputs.features,",
        "reverse_gradient(outputs.features.detach(),",
        (CONTRACT,),
    ),
    "dann_without_reversal": Mutation(
        "methods/dann.py",
        "reverse_gradient(outputs.features, grl_lambda(progress, self.high))",
        "outputs.features",
        (CONTRACT,),
    ),
    "cdan_softmax_not_detached": Mutation(
        "methods/cdan.py",
        "answers = outputs.logits.detach()",
        "answers = outputs.logits",
        ("adapt/methods/test_cdan.py",),
    ),
    "cdan_weights_over_both_domains": Mutation(
        "methods/cdan.py", "certainty[rows].sum()", "certainty.sum()", ("adapt/methods/test_cdan.py",)
    ),
    "cdan_entropy_sign": Mutation(
        "methods/cdan.py",
        "torch.exp(-entropy(answers))",
        "torch.exp(entropy(answers))",
        ("adapt/methods/test_cdan.py",),
    ),
    "cdan_random_map_not_scaled": Mutation("methods/cdan.py", " / width**0.5", "", ("adapt/methods/test_cdan.py",)),
    "mcc_temperature": Mutation(
        "methods/mcc.py",
        "full_precision(logits) / temperature",
        "full_precision(logits)",
        ("adapt/methods/test_mcc.py",),
    ),
    "mcc_weights_not_detached": Mutation(
        "methods/mcc.py", "softened.detach()", "softened", ("adapt/methods/test_mcc.py",)
    ),
    "mcc_not_normalised": Mutation(
        "methods/mcc.py",
        "confusion / confusion.sum(1, keepdim=True).clamp_min(_TINY)",
        "confusion / len(shares)",
        ("adapt/methods/test_mcc.py",),
    ),
    "bnm_sign": Mutation(
        "methods/bnm.py", "-self.weight * nuclear", "self.weight * nuclear", ("adapt/methods/test_bnm.py",)
    ),
    "bnm_frobenius": Mutation(
        "methods/bnm.py",
        "torch.linalg.svdvals(shares).sum()",
        "torch.linalg.svdvals(shares).square().sum().sqrt()",
        ("adapt/methods/test_bnm.py",),
    ),
    "afn_radius_not_detached": Mutation(
        "methods/afn.py", "norms.detach() + step", "norms + step", ("adapt/methods/test_afn.py",)
    ),
    "entropy_sign": Mutation(
        "predictions.py", "return -(logs.exp() * logs)", "return (logs.exp() * logs)", ("adapt/test_predictions.py",)
    ),
    "diversity_of_rows_and_not_of_the_mean": Mutation(
        "predictions.py",
        "mean = probabilities(logits).mean(0)",
        "mean = probabilities(logits)[0]",
        ("adapt/test_predictions.py",),
    ),
    "mcd_step_b_left_out": Mutation(
        "two_heads.py", "move_heads(heads_loss(model, batch))", "pass", ("adapt/methods/test_mcd.py",)
    ),
    "mcd_step_c_moves_the_head": Mutation(
        "two_heads.py",
        "encoder = own_optimiser(parts, like)",
        'encoder = own_optimiser({"head": model.head.parameters()}, like)',
        ("adapt/methods/test_mcd.py",),
    ),
    "mcd_heads_pulled_together": Mutation(
        "two_heads.py", "return right - weight", "return right + weight", ("adapt/methods/test_mcd.py",)
    ),
    "mcd_domains_normalised_together": Mutation(
        "two_heads.py",
        "    target = model(batch.inputs[count:], batch.domains[count:])\n    return",
        "    _, target = model(batch.inputs, batch.domains).split(count)\n    return",
        ("adapt/methods/test_mcd.py",),
    ),
    "adda_labels_not_inverted": Mutation(
        "methods/adda.py",
        "softplus(-full_precision(logits)).mean()",
        "softplus(full_precision(logits)).mean()",
        ("adapt/methods/test_adda.py",),
    ),
    "adda_source_encoder_trains": Mutation(
        "methods/adda.py", "if adapting and not self.copied:", "if adapting:", ("adapt/methods/test_adda.py",)
    ),
    "adda_discriminator_trains_with_the_encoder": Mutation(
        "methods/adda.py", "name: parameter.detach() for", "name: parameter for", ("adapt/methods/test_adda.py",)
    ),
    "shot_head_not_frozen": Mutation(
        "methods/shot.py",
        "weight = model.head.weight.detach()",
        "weight = model.head.weight",
        ("adapt/methods/test_shot.py",),
    ),
    "shot_bias_not_frozen": Mutation(
        "methods/shot.py", "_bias(model).detach()", "_bias(model)", ("adapt/methods/test_shot.py",)
    ),
    "shot_source_rows_in_phase_two": Mutation(
        "methods/shot.py",
        "features = model(batch.inputs[rows], batch.domains[rows]).features\n        weight",
        "features = model(batch.inputs, batch.domains).features[rows]\n        weight",
        ("adapt/methods/test_shot.py",),
    ),
    "shot_diversity_sign": Mutation(
        "methods/shot.py",
        "entropy(logits).mean() - diversity",
        "entropy(logits).mean() + diversity",
        ("adapt/methods/test_shot.py",),
    ),
    "jdot_gradient_through_the_plan": Mutation(
        "methods/deepjdot.py", "@torch.no_grad()\n", "", ("adapt/methods/test_deepjdot.py",)
    ),
    "jdot_rows_not_scaled": Mutation(
        "methods/deepjdot.py", "rows[:, None] + columns)", "columns)", ("adapt/methods/test_deepjdot.py",)
    ),
    "m3sda_without_pairs_of_sources": Mutation(
        "methods/m3sda.py", "if len(means) > 1:", "if False:", ("adapt/methods/test_m3sda.py",)
    ),
    "whitening_the_wrong_way": Mutation(
        "methods/coral_whitening.py",
        "_power(source, ridge, -0.5) @ _power(target, ridge, 0.5)",
        "_power(target, ridge, -0.5) @ _power(source, ridge, 0.5)",
        ("adapt/methods/test_coral_whitening.py",),
    ),
    "adabn_keeps_the_source_variance": Mutation(
        "methods/adabn.py",
        "norm.running_var.copy_(",
        "torch.zeros_like(norm.running_var).copy_(",
        ("adapt/methods/test_adabn.py",),
    ),
    "ema_turned_round": Mutation(
        "teachers.py", "own.lerp_(other, 1.0 - decay)", "own.lerp_(other, decay)", ("adapt/test_teachers.py",)
    ),
    "fixmatch_without_threshold": Mutation(
        "methods/fixmatch.py", "confidence >= self.threshold", "confidence >= 0.0", ("adapt/methods/test_fixmatch.py",)
    ),
    "fixmatch_on_the_weak_view": Mutation(
        "methods/fixmatch.py",
        "target.logits[len(domains) :]",
        "target.logits[: len(domains)]",
        ("adapt/methods/test_fixmatch.py",),
    ),
    "mic_student_sees_the_whole": Mutation(
        "methods/mic.py", "masked(target, self.patch, self.ratio)", "target", ("adapt/methods/test_mic.py",)
    ),
    "tent_tunes_everything": Mutation(
        "layer_norms.py",
        "self.parameters = layer_norm_parameters(model)",
        "self.parameters = list(model.parameters())",
        ("adapt/methods/test_tent.py",),
    ),
    "tent_reset_forgets_to_copy": Mutation(
        "layer_norms.py", "            parameter.copy_(start)\n", "", ("adapt/methods/test_tent.py",)
    ),
    "sar_filter_turned_round": Mutation(
        "methods/sar.py",
        "reliable = first.detach() < self.margin",
        "reliable = first.detach() > self.margin",
        ("adapt/methods/test_sar.py",),
    ),
    "sar_stays_at_the_moved_weights": Mutation(
        "methods/sar.py", "parameter.copy_(value)", "value.copy_(parameter)", ("adapt/methods/test_sar.py",)
    ),
    "domain_loss_of_rows_and_not_of_halves": Mutation(
        "layers.py",
        "(each[:source_count].mean() + each[source_count:].mean()) / 2.0",
        "each.mean()",
        ("adapt/test_layers.py",),
    ),
    "bsp_penalty_of_both_domains_at_once": Mutation(
        "methods/bsp.py",
        "self.penalty(full_precision(source.features)) + self.penalty(full_precision(target.features))",
        "self.penalty(full_precision(outputs.features))",
        ("adapt/methods/test_bsp.py",),
    ),
    "bsp_sign": Mutation(
        "methods/bsp.py",
        "self.config.spectral_weight *",
        "-self.config.spectral_weight *",
        ("adapt/methods/test_bsp.py",),
    ),
    "bsp_without_reversal": Mutation(
        "methods/bsp.py",
        "reverse_gradient(outputs.features, grl_lambda(progress, self.config.high))",
        "outputs.features",
        ("adapt/methods/test_bsp.py",),
    ),
    "swd_directions_ignored": Mutation(
        "methods/swd.py", "        self.distance.m = directions\n", "", ("adapt/methods/test_swd.py",)
    ),
    "swd_encoder_step_moves_the_heads": Mutation(
        "two_heads.py",
        "partial(minimise_only, parameters=of_encoder, optimiser=like,",
        "partial(minimise_only, parameters=of_heads, optimiser=like,",
        ("adapt/methods/test_swd.py",),
    ),
    "swd_of_logits": Mutation(
        "methods/swd.py",
        "one, other = probabilities(first), probabilities(second)",
        "one, other = first, second",
        ("adapt/methods/test_swd.py",),
    ),
    "atdoc_memory_written_before_the_labels": Mutation(
        "methods/atdoc.py",
        "self._seen.append((features.detach(), logits.detach(), batch.target_index))",
        "self._seen.append((features.detach(), logits.detach(), batch.target_index)); self.after_step(model, progress)",
        ("adapt/methods/test_atdoc.py",),
    ),
    "atdoc_probabilities_underflow": Mutation(
        "methods/atdoc.py", ".clamp_min(-_LEAST * self.temperature)", "", ("adapt/methods/test_atdoc.py",)
    ),
    "atdoc_takes_rows_that_are_not_finite": Mutation(
        "methods/atdoc.py",
        "features.isfinite().all(1) & logits.isfinite().all(1)",
        "features.isfinite().all(1) | True",
        ("adapt/methods/test_atdoc.py",),
    ),
    "atdoc_not_weighted_by_certainty": Mutation(
        "methods/atdoc.py",
        "(certainty * each).sum() / certainty.sum().clamp_min(_TINY)",
        "each.mean()",
        ("adapt/methods/test_atdoc.py",),
    ),
    "rtn_residual_on_the_target": Mutation(
        "methods/rtn.py",
        "entropy(target.logits).mean()",
        "entropy(self.residual(target.logits)).mean()",
        ("adapt/methods/test_rtn.py",),
    ),
    "rtn_source_without_residual": Mutation(
        "methods/rtn.py",
        "source_loss(by_source, batch)",
        "source_loss(source.logits, batch)",
        ("adapt/methods/test_rtn.py",),
    ),
    "rtn_map_takes_over_a_short_type": Mutation(
        "methods/rtn.py",
        "self.fusion(full_precision(outputs.features), full_precision(outputs.logits))",
        "self.fusion(outputs.features, outputs.logits)",
        ("adapt/methods/test_rtn.py",),
    ),
    "vada_search_clears_gradients": Mutation(
        "methods/vada.py",
        "{name: weight.detach() for name, weight in part.named_parameters()}",
        "dict(part.named_parameters())",
        ("adapt/methods/test_vada.py",),
    ),
    "vada_under_batch_statistics": Mutation(
        "methods/vada.py", "        part.eval()\n", "        pass\n", ("adapt/methods/test_vada.py",)
    ),
    "vada_labels_not_inverted": Mutation(
        "methods/vada.py", "domain_loss(-fooled, count)", "domain_loss(fooled, count)", ("adapt/methods/test_vada.py",)
    ),
    "vada_modes_not_put_back": Mutation(
        "methods/vada.py", "module.training = training", "module.training = False", ("adapt/methods/test_vada.py",)
    ),
    "vada_divergence_turned_round": Mutation(
        "methods/vada.py",
        'functional.kl_div(functional.log_softmax(moved, dim=1), probabilities(clean), reduction="none")',
        'functional.kl_div(functional.log_softmax(clean, dim=1), probabilities(moved), reduction="none")',
        ("adapt/methods/test_vada.py",),
    ),
}


def copy_of_the_project(folder: Path) -> Path:
    """Copies what the tests of methods need."""
    for name in ("src", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder / "pyproject.toml")
    return folder


def survives(mutation: Mutation, project: Path) -> bool:
    """Plants the bug, runs its tests, takes it out again; returns whether all of them passed.

    Raises:
        LookupError: the text to change does not stand in the file exactly once.
        RuntimeError: the tests could not run, which is no verdict.
    """
    path = project / "src" / "isthmus" / "adapt" / mutation.path
    whole = path.read_text()
    if whole.count(mutation.old) != 1:
        raise LookupError(f"{mutation.path}: found {whole.count(mutation.old)} times, wanted once: {mutation.old!r}")
    path.write_text(whole.replace(mutation.old, mutation.new))
    try:
        return all_pass(mutation.tests, project)
    finally:
        path.write_text(whole)


def all_pass(tests: tuple[str, ...], project: Path) -> bool:
    """Runs tests on a copy of the project; its source wins over the installed one."""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{project / 'src'}{os.pathsep}{project}",
        "PYTHONDONTWRITEBYTECODE": "1",  # a file changed twice within a second keeps its old byte-code
    }
    command = [sys.executable, "-m", "pytest", "-q", "-x", *(f"tests/{test}" for test in tests)]
    ran = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    if ran.returncode not in (0, 1):
        raise RuntimeError(f"pytest ended with {ran.returncode}: {ran.stdout[-800:]}{ran.stderr[-800:]}")
    return ran.returncode == 0


def main() -> None:
    """Runs all mutations, or those named on the command line; exits 1 when one survives."""
    names = sys.argv[1:] or list(MUTATIONS)
    survivors = []
    with tempfile.TemporaryDirectory() as folder:
        project = copy_of_the_project(Path(folder))
        for name in names:
            alive = survives(MUTATIONS[name], project)
            survivors += [name] if alive else []
            print(f"{'SURVIVES' if alive else 'killed'}  {name}", flush=True)
    raise SystemExit(1 if survivors else 0)


if __name__ == "__main__":
    main()
