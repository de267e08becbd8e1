"""No planted bug survives, and the exercise itself can tell a bug from none."""

from pathlib import Path

import pytest

from tests.mutations import MUTATIONS, Mutation, all_pass, copy_of_the_project, survives


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of_the_project(tmp_path_factory.mktemp("mutants"))


@pytest.mark.soak  # minutes: all tests of the exercise in a process of their own
def test_without_a_bug_every_test_of_the_exercise_passes(project: Path) -> None:
    tests = sorted({test for mutation in MUTATIONS.values() for test in mutation.tests})

    assert all_pass(tuple(tests), project)


@pytest.mark.soak  # minutes: each bug runs its tests in a process of its own
@pytest.mark.parametrize("name", MUTATIONS)
def test_a_planted_bug_is_noticed(name: str, project: Path) -> None:
    assert not survives(MUTATIONS[name], project)


def test_a_mutation_whose_text_is_gone_is_refused(project: Path) -> None:
    with pytest.raises(LookupError, match="layers.py: found 0 times, wanted once: 'no such line'"):
        survives(Mutation("layers.py", "no such line", "x", ("adapt/test_layers.py",)), project)
