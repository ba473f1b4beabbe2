"""Everything that a run writes into its output folder: names, checkpoints, states, and what is cleared away."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from library.files import sweep_unfinished
from library.log import say
from library.models.drawing import save_png
from library.models.parameters import webui_text
from library.settings import Settings, write_settings
from library.settings.whole_checks import places
from library.train.preview import Preview
from library.train.state import State, remove_folder, save_state, sweep

NOTHING_WRITTEN: Mapping[str, Any] = {"epoch_files": [], "step_files": []}


@dataclass
class Outputs:
    """Names and keeps the files of one run; only files that this run has written are ever removed.

    A result goes by the name of its file; `places` says where it really lies.
    """

    settings: Settings
    _epoch_files: list[tuple[int, Path]] = field(default_factory=list)
    _step_files: list[tuple[int, Path]] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """The output folder."""
        return Path(self.settings.output_dir)

    @property
    def final_file(self) -> Path:
        """The finished result."""
        return self.folder / f"{self.settings.output_name}.safetensors"

    def epoch_file(self, epoch: int) -> Path:
        """The result after `epoch` finished epochs."""
        return self.folder / f"{self.settings.output_name}-{epoch:06d}.safetensors"

    def step_file(self, step: int) -> Path:
        """The result after `step` finished steps."""
        return self.folder / f"{self.settings.output_name}-step{step:08d}.safetensors"

    def places(self, model_file: Path) -> list[Path]:
        """Where a result is written: its file, or for a whole model a folder of that name, or both."""
        return places(self.settings, model_file.with_suffix(""))

    def average_places(self, model_file: Path) -> list[Path]:
        """Where the running average is written, if there is one: beside the result."""
        return self.places(model_file.with_stem(f"{model_file.stem}-ema")) if self.settings.ema else []

    def sample_file(self, moment: str, number: int, seed: int) -> Path:
        """A preview; `moment` is e000002 or 000100 as in sd-scripts, `number` that of its prompt."""
        return self.folder / "sample" / f"{self.settings.output_name}_{moment}_{number:02d}_{seed}.png"

    @property
    def settings_file(self) -> Path:
        """The resolved settings, which are a valid --config."""
        return self.folder / f"{self.settings.output_name}.toml"

    def begin(self) -> None:
        """Takes away what killed runs of this name left half written, and writes the resolved settings."""
        sweep(self.folder, self.settings.output_name)
        sweep_unfinished(self.folder, self.settings.output_name)
        sweep_unfinished(self.folder / "sample", self.settings.output_name)
        write_settings(self.settings, self.settings_file)

    def save_picture(self, path: Path, preview: Preview) -> None:
        """Writes a preview with its prompt inside, as the web UIs do."""
        save_png(path, preview.image, webui_text(preview.prompt, self.settings.output_name))

    def save_state(self, model_file: Path, state: State) -> Path:
        """Writes what a later run resumes from, beside the result of the same moment."""
        path = state_folder(model_file)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_state(path, state)
        return path

    def note(self, paths: Sequence[Path], step: int, epoch: int) -> None:
        """Remembers numbered results, before they are written, so that the states beside them know of them too."""
        if self.step_file(step) in paths:
            self._step_files.append((step, self.step_file(step)))
        if self.epoch_file(epoch) in paths:
            self._epoch_files.append((epoch, self.epoch_file(epoch)))

    def clear(self) -> None:
        """Removes all that is old."""
        self._clear_epochs()
        self._clear_steps()

    def remember(self) -> dict[str, Any]:
        """The files written so far, for the state."""
        return {
            "epoch_files": [[number, path.name] for number, path in self._epoch_files],
            "step_files": [[number, path.name] for number, path in self._step_files],
        }

    def restore(self, written: Mapping[str, Any]) -> None:
        """Takes over the files of the run that is resumed; those of another output name stay that run's."""
        self._epoch_files = _taken_over(written["epoch_files"], self.epoch_file)
        self._step_files = _taken_over(written["step_files"], self.step_file)

    def _clear_epochs(self) -> None:
        """Removes old epoch files; the last `save_last_n_epochs` of them stay, as in sd-scripts."""
        files, states = self.settings.save_last_n_epochs, self.settings.save_last_n_epochs_state
        numbers = [number for number, _ in self._epoch_files]
        self._clear(self._epoch_files, _count_limit(numbers, files), _count_limit(numbers, states or files))

    def _clear_steps(self) -> None:
        """Removes old step files; those of the last `save_last_n_steps` steps stay, as in sd-scripts."""
        if not self._step_files:
            return
        step = self._step_files[-1][0]
        files, states = self.settings.save_last_n_steps, self.settings.save_last_n_steps_state
        self._clear(self._step_files, _span_limit(step, files), _span_limit(step, states or files))

    def _clear(self, files: list[tuple[int, Path]], oldest_file: int, oldest_state: int) -> None:
        """Removes files and states that are older than what stays."""
        for number, path in list(files):
            results, state = [*self.places(path), *self.average_places(path)], state_folder(path)
            old = [*(results if number < oldest_file else []), *([state] if number < oldest_state else [])]
            for each in old:
                _remove(each)
            if not any(each.exists() for each in (*results, state)):
                files.remove((number, path))


def _taken_over(written: Sequence[Sequence[Any]], named: Callable[[int], Path]) -> list[tuple[int, Path]]:
    """The files, with their numbers, that are named as this run names its own."""
    return [(number, named(number)) for number, name in written if named(number).name == name]


def state_folder(model_file: Path) -> Path:
    """The state that belongs to a result."""
    return model_file.with_name(f"{model_file.stem}-state")


def _count_limit(numbers: list[int], wanted: int | None) -> int:
    """The oldest number that stays if `wanted` files stay."""
    return numbers[-wanted] if wanted and len(numbers) >= wanted else 0


def _span_limit(now: int, wanted: int | None) -> int:
    """The oldest step that stays if a span of `wanted` steps stays."""
    return now - wanted if wanted else 0


def _remove(path: Path) -> None:
    """Removes a file or a folder, if it is there."""
    if not path.exists():
        return
    if path.is_dir():
        remove_folder(path)
    else:
        path.unlink()
    say(f"removed {path}")
