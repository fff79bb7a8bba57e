"""Every path of a run, named once; nothing else builds one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from napari_ssl_pretrain.spec.job_dir import JobDir

Split = Literal["train", "validation", "test"]
CheckKind = Literal["original", "masked", "reconstruction", "reconstruction_and_visible", "hidden"]
CHECK_KINDS: tuple[CheckKind, ...] = (
    "original",
    "masked",
    "reconstruction",
    "reconstruction_and_visible",
    "hidden",
)


@dataclass(frozen=True)
class RunDir(JobDir):
    """The folders and files of run ``run_id`` of job ``name`` under ``result_dir``.

    Parameters
    ----------
    result_dir
        Folder that holds all jobs.
    name
        Name of the job.
    run_id
        Number of the run.
    """

    result_dir: Path
    name: str
    run_id: int = 1

    @property
    def job(self) -> Path:
        """Folder of the job, shared by its runs."""
        return Path(self.result_dir) / self.name

    @property
    def run_name(self) -> str:
        """``<name>_<run_id>``, the stem of most files."""
        return f"{self.name}_{self.run_id}"

    @property
    def config_files(self) -> Path:
        """Folder of the configurations."""
        return self.job / "config_files"

    @property
    def config(self) -> Path:
        """The configuration as given; overwritten at every start."""
        return self.config_files / f"{self.name}.yaml"

    @property
    def resolved_config(self) -> Path:
        """Every value that was used."""
        return self.config_files / f"{self.run_name}_resolved.yaml"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints of all runs."""
        return self.job / "checkpoints"

    def checkpoint(self, which: Literal["best", "last"]) -> Path:
        """Return the path of one checkpoint."""
        return self.checkpoints / f"{self.run_name}-checkpoint-{which}.pth"

    @property
    def normalization_mean(self) -> Path:
        """Mean of the training set, for ``normalization: custom``."""
        return self.checkpoints / "normalization_mean_value.npy"

    @property
    def normalization_std(self) -> Path:
        """Standard deviation of the training set, for ``normalization: custom``."""
        return self.checkpoints / "normalization_std_value.npy"

    @property
    def results(self) -> Path:
        """Folder of everything this run alone leaves."""
        return self.job / "results" / self.run_name

    @property
    def aug(self) -> Path:
        """Samples of what the network is shown."""
        return self.results / "aug"

    @property
    def charts(self) -> Path:
        """Folder of the charts."""
        return self.results / "charts"

    def chart(self, metric: str) -> Path:
        """Return the path of the chart of one metric; ``loss`` is one."""
        return self.charts / f"{self.run_name}_{metric}.png"

    @property
    def model_plot(self) -> Path:
        """The picture of the network."""
        return self.charts / f"model_plot_{self.run_name}.png"

    @property
    def mae_checks(self) -> Path:
        """Folder of original, masked and reconstructed images (masking)."""
        return self.results / "MAE_checks"

    def mae_check(self, image: str, kind: CheckKind) -> Path:
        """Return the path of one MAE check of one image."""
        return self.mae_checks / f"{image}_{kind}.tif"

    @property
    def per_image(self) -> Path:
        """Folder of the test images, put together from patches."""
        return self.results / "per_image"

    def restored(self, image: str) -> Path:
        """Return the path of one restored or reconstructed test image."""
        return self.per_image / f"{image}.tif"

    def ssl_source(self, ssl_source_dir: str = "auto") -> Path:
        """Return the folder of the worsened copies."""
        return self.results / "ssl_source" if ssl_source_dir == "auto" else Path(ssl_source_dir)

    @property
    def tensorboard(self) -> Path:
        """Folder of the TensorBoard logs."""
        return self.results / "tensorboard"

    @property
    def train_logs(self) -> Path:
        """Folder of the training log."""
        return self.results / "train_logs"

    @property
    def train_log(self) -> Path:
        """One row an epoch."""
        return self.train_logs / f"{self.run_name}_log.csv"

    @property
    def test_metrics(self) -> Path:
        """One row a test image."""
        return self.results / "test_metrics.csv"

    @property
    def summary(self) -> Path:
        """What the run came to, as JSON."""
        return self.results / "summary.json"

    def here(self, path: str) -> Path:
        """Return where a file of this run is now, which may have been written as another path.

        A shared folder has other names on other machines, and folders are moved.
        """
        parts = PurePosixPath(path.replace("\\", "/")).parts
        if self.run_name in parts:
            last = len(parts) - 1 - parts[::-1].index(self.run_name)
            inside = parts[last + 1 :]
            if inside and ".." not in inside and _is_file(found := self.results.joinpath(*inside)):
                return found
        return Path(path)

    def empty_folders(self) -> tuple[Path, ...]:
        """Return the folders that are made for a run alone, innermost first."""
        return (self.results, self.results.parent, self.job)

    def folders(self, task: str) -> tuple[Path, ...]:
        """Return the folders that a run of this task leaves."""
        always = (
            self.config_files,
            self.checkpoints,
            self.results,
            self.aug,
            self.charts,
            self.per_image,
            self.tensorboard,
            self.train_logs,
        )
        return (*always, self.mae_checks) if task == "masking" else always

    @classmethod
    def from_results(cls, results: Path) -> RunDir:
        """Return the run whose result folder this is.

        Raises
        ------
        ValueError
            The path is not ``<result_dir>/<name>/results/<name>_<run_id>``.
        """
        job = results.parent.parent
        run_id = results.name.removeprefix(f"{job.name}_")
        if (
            results.parent.name != "results"
            or not run_id.isdecimal()
            or f"{job.name}_{run_id}" != results.name
        ):
            raise ValueError(f"{results} is no result folder of a run")
        return cls(job.parent, job.name, int(run_id))

    @classmethod
    def find(cls, root: Path) -> list[RunDir]:
        """Return the runs under a result folder, a job's folder or a run's own, oldest first."""
        root = Path(root)
        patterns = ("events.jsonl", "results/*/events.jsonl", "*/results/*/events.jsonl")
        found = {}
        for path in (p for pattern in patterns for p in root.glob(pattern)):
            try:
                found[path.resolve()] = (
                    path.stat().st_mtime,
                    cls.from_results(path.parent.absolute()),
                )
            except (ValueError, OSError):
                continue
        return [
            run for _, run in sorted(found.values(), key=lambda pair: (pair[0], pair[1].run_id))
        ]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False
