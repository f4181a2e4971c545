"""What is wrong with values of one part of a study that do not go together."""

from kdbench.stats import FEWEST_SEEDS
from kdbench.study.schema import Final, RecipePart, Tune


def look_faults(final: Final) -> list[str]:
    """What is wrong with the numbers of seeds at which a study is judged."""
    looks, seeds = final.looks, final.seeds
    faults = []
    if list(looks) != sorted(set(looks)) or looks[0] < FEWEST_SEEDS:
        faults.append(
            f"final.looks: {list(looks)} should grow, from {FEWEST_SEEDS} seeds or more: below "
            "that there is no verdict"
        )
    if looks[-1] != len(seeds):
        faults.append(
            f"final.looks: the last should have all seeds, of which there are {len(seeds)}, not "
            f"{looks[-1]}"
        )
    if list(seeds) != sorted(seeds):
        faults.append("final.seeds: with looks they should grow, as a look takes the first of them")
    return faults


def recipe_faults(recipe: RecipePart, tune: Tune | None) -> list[str]:
    """What is wrong with parts of a recipe that do not go together."""
    faults = []
    if recipe.schedule == "step" and not recipe.milestones:
        faults.append("recipe: schedule: step needs milestones (shares of the epochs)")
    if recipe.nesterov and (recipe.optimizer != "sgd" or not recipe.momentum):
        faults.append("recipe.nesterov: it is a form of momentum; take optimizer: sgd with one")
    if recipe.teacher_outputs == "cache" and recipe.resolve().random_images:
        faults.append(
            "recipe.teacher_outputs: a cache cannot hold a teacher's outputs for images that are "
            "changed at random (augment, erasing, mixup, cutmix); use auto or live"
        )
    shortest = min(recipe.epochs, tune.epochs if tune else recipe.epochs)
    if recipe.warmup and recipe.schedule == "one-cycle":
        faults.append("recipe.warmup: a one-cycle schedule has a warm-up of its own; leave it out")
    elif recipe.warmup >= shortest:
        faults.append(
            f"recipe.warmup: {recipe.warmup} epochs leave none of {shortest} for the learning rate "
            "itself; take fewer"
        )
    return faults
