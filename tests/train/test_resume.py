"""Which state is taken up, and when there is none to take."""

from types import SimpleNamespace

import pytest
import torch

from library.errors import InputError
from library.train.outputs import NOTHING_WRITTEN
from library.train.plan import make_plan
from library.train.resume import as_resumed, find_state, optimizer_before, restore
from library.train.state import DamagedState, State, save_state

IDENTITY = {"seed": 7}


@pytest.fixture
def find(settings_of, dataset_of, bench):
    """Looks for a state in the output folder."""

    def _find(**changes):
        settings = settings_of(**{"max_train_steps": 4, **changes})
        return find_state(settings, make_plan(settings, dataset_of(4), 1), IDENTITY)

    return _find


@pytest.fixture
def saved(bench):
    """States at steps 2 and 3."""
    for step in (2, 3):
        progress = {"step": step, "written": {"epoch_files": [[1, "toy-000001"]]}}
        state = State({"a": torch.ones(1)}, {}, progress, IDENTITY)
        bench.output.mkdir(exist_ok=True)
        save_state(bench.output / f"toy-step{step:08d}-state", state)


def test_not_asked(find, saved) -> None:
    assert find() is None


def test_the_newest_or_the_named(find, saved, bench, capsys) -> None:
    assert find(resume="auto").progress["step"] == 3
    assert "going on from" in capsys.readouterr().out
    assert find(resume=bench.output / "toy-step00000002-state").progress["step"] == 2
    assert find(resume="auto", output_name="other") is None


def test_nothing_is_left_to_do(find, saved) -> None:
    with pytest.raises(InputError, match="at step 3 already, and this run ends at step 3.*max_train_steps"):
        find(resume="auto", max_train_steps=3)


def test_everything_is_put_back() -> None:
    told = {}
    learner = SimpleNamespace(restore=lambda weights, optimizer: told.update(learner=(weights, optimizer)))
    events = SimpleNamespace(
        training=SimpleNamespace(model=SimpleNamespace(learner=learner)),
        report=SimpleNamespace(restore=lambda state: told.update(report=state)),
        outputs=SimpleNamespace(restore=lambda state: told.update(outputs=state)),
        at_resume=lambda step: told.update(resumed=(step, "outputs" in told)),
    )
    progress = {"step": 5, "report": {"average": 1}, "written": {"epoch_files": []}}
    assert restore(State({"a": 1}, {"b": 2}, progress, IDENTITY), events) == 5
    assert told.pop("resumed") == (5, True)
    assert told == {"learner": ({"a": 1}, {"b": 2}), "report": {"average": 1}, "outputs": {"epoch_files": []}}


def test_auto_passes_over_what_is_damaged(find, saved, bench, capsys) -> None:
    (bench.output / "toy-step00000003-state" / "weights.safetensors").write_bytes(b"half")
    assert find(resume="auto").progress["step"] == 2
    assert "weights.safetensors is missing or damaged" in capsys.readouterr().err
    with pytest.raises(DamagedState, match="missing or damaged"):
        find(resume=bench.output / "toy-step00000003-state")


def test_a_manifest_that_is_cut_is_passed_over_too(find, saved, bench, capsys) -> None:
    manifest = bench.output / "toy-step00000003-state" / "state.json"
    manifest.write_text(manifest.read_text()[:50])
    assert find(resume="auto").progress["step"] == 2
    assert "toy-step00000003-state is no state folder" in capsys.readouterr().err


@pytest.mark.parametrize("file", ["optimizer.pt", "state.json"])
def test_auto_never_begins_anew_where_all_are_damaged(find, saved, bench, file: str) -> None:
    for state in bench.output.iterdir():
        (state / file).unlink()
    with pytest.raises(InputError, match="every state of toy in .* is damaged; delete these folders"):
        find(resume="auto")


def test_files_of_another_folder_are_not_this_runs(find, saved, bench) -> None:
    state = bench.output / "toy-step00000003-state"
    assert find(resume=state).progress["written"]["epoch_files"]
    assert find(resume=state, output_dir=bench.folder / "other").progress["written"] == NOTHING_WRITTEN


def test_an_optimizer_of_eight_bits_stays(settings_of, bench) -> None:
    """Only one that memory = "auto" may have chosen, and only where that is asked for again."""
    folder = bench.output / "toy-step00000003-state"
    assert optimizer_before(settings_of(resume="auto")) is None and as_resumed(settings_of()) == settings_of()
    save_state(folder, State({}, {}, {"step": 3}, {"optimizer_type": "AdamW8bit"}))
    for resume in ("auto", folder):
        settings = settings_of(resume=resume, memory="auto")
        assert optimizer_before(settings) == as_resumed(settings).optimizer_type == "AdamW8bit"
    for changes in ({"memory": "as_set"}, {"memory": "auto", "optimizer_type": "Lion"}):
        settings = settings_of(resume="auto", **changes)
        assert as_resumed(settings) == settings
