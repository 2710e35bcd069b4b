"""What a user sees of a run: a line a job, and on a terminal a bar over the iterations of all of them."""

import shutil
import sys
import time
from collections.abc import Sequence
from datetime import datetime

from crnn.experiments.jobs import Job
from crnn.experiments.measures import score
from crnn.experiments.run import Chain, iterations
from crnn.report.page import duration

EVERY = 2.0  # seconds between looks at the jobs' rows


class Progress:
    """The `tell` of `run`."""

    def __init__(self, jobs: Sequence[Job]):
        self.jobs, self.total = jobs, sum(_length(job) for job in jobs)
        self.reached = {str(job): _length(job) if job.done else iterations(job) for job in jobs}
        self.ended = {str(job) for job in jobs if job.done}
        self.began, self.first, self.looked = time.monotonic(), sum(self.reached.values()), 0.0
        self.bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            columns, rows = shutil.get_terminal_size()  # tqdm's own guess hides the bar where it finds 0
            place = {"ncols": columns, "nrows": rows, "smoothing": 0.02}
            self.bar = tqdm(total=self.total, initial=self.first, unit="it", **place)

    def __call__(self, event: str, job: Job | None, chains: Sequence[Chain]) -> None:
        if event == "tick":
            return self._look(chains)
        if event == "done":
            self.reached[str(job)] = _length(job)
            self.ended.add(str(job))
        place = f"[{len(self.ended)}/{len(self.jobs)}] {datetime.now():%H:%M:%S}"
        self._say(f"{place} {job}: {self._text(event, job)}")

    def _text(self, event: str, job: Job) -> str:
        if event == "start":
            at = iterations(job)  # 0 where its folder was set aside just now
            self.first += at - self.reached[str(job)]
            self.reached[str(job)] = at
            return f"goes on from iteration {at:,} or its last snapshot" if at else "starts"
        if event != "done":
            return {"fail": "failed", "stop": "stopped"}[event]
        try:
            figures = {str(way): score(job.scores(way.views), way.measure) for way in job.experiment.ways}
        except ValueError as error:  # a measure that does not fit: the other jobs go on
            return f"done, but {error}"
        shown = ", ".join(f"{way} {figure:.2f} %" for way, figure in figures.items())
        made = sum(self.reached.values())
        seconds = (time.monotonic() - self.began) / max(made - self.first, 1) * (self.total - made)
        return shown + (f"; about {duration(seconds)} left" if seconds >= 60 else "")

    def _look(self, chains: Sequence[Chain]) -> None:
        if time.monotonic() - self.looked < EVERY:
            return
        self.looked = time.monotonic()
        for chain in chains:
            self.reached[str(chain.job)] = max(self.reached[str(chain.job)], iterations(chain.job))
        if self.bar is not None:
            self.bar.set_postfix_str(", ".join(str(chain.job) for chain in chains), refresh=False)
            self.bar.update(sum(self.reached.values()) - self.bar.n)

    def _say(self, line: str) -> None:
        if self.bar is None:
            print(line, flush=True)
        else:
            self.bar.write(line)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def _length(job: Job) -> int:
    return 0 if not job.trained else job.experiment.solver_text(job.net).max_iter
