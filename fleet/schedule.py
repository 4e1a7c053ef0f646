"""Which job goes to which host, and whose fault a failure is. Names and numbers only: no Ray, no clock."""

from collections import defaultdict, deque
from collections.abc import Iterable

ATTEMPTS = 3  # at a job that fails without the workflow being at fault, on as many hosts as there are up to this number
IN_A_ROW = 3  # jobs that fail on a host, after which it rests
MOST_RESTS = 3  # without a job done in between, after which it is left out


class Schedule:
    """hosts: names; jobs: indices, in the order to do them.

    A job that fails is tried on another host: only where two hosts refuse it, or there is no other, the workflow is
    taken to be at fault. Failures that no other host confirmed are counted for the host.
    """

    def __init__(self, hosts: Iterable[str], jobs: Iterable[int]):
        self.waiting = deque(jobs)
        self.in_play = set(hosts)
        self.attempts = defaultdict(list)  # job -> [(host, whether it refused the job)]
        self.failed_since_success = defaultdict(list)  # host -> jobs that failed on it since it last did one
        self.rests = defaultdict(int)

    def next_for(self, host: str) -> int | None:
        """Take the next job for a host: none that failed on it while another host could do it."""
        for place, job in enumerate(self.waiting):
            tried = self._tried(job)
            if host not in tried or not self.in_play - tried:
                del self.waiting[place]
                return job
        return None

    def succeeded(self, host: str, job: int) -> None:
        self.attempts.pop(job, None)
        self.failed_since_success[host].clear()
        self.rests[host] = 0

    def failed(self, host: str, job: int, refused: bool) -> bool:
        """Whether the job has failed for good; else it waits for another try.

        refused: the host says that the workflow is at fault.
        """
        self.attempts[job].append((host, refused))
        self.failed_since_success[host].append(job)
        attempts, tried = self.attempts[job], self._tried(job)
        untried = self.in_play - tried
        refusing = {name for name, so in attempts if so}
        if refused and (len(refusing) > 1 or not untried):
            final = True
        else:
            final = len(attempts) >= ATTEMPTS and (len(tried) >= ATTEMPTS or not untried)
        if final:
            del self.attempts[job]
            for name in tried:
                self.failed_since_success[name] = [other for other in self.failed_since_success[name] if other != job]
        else:
            self.waiting.append(job)
        return final

    def rest(self, host: str) -> bool:
        """Whether a host has failed too often and rests from now on; after its first rest one failure is enough.

        What failed there is not held against the jobs, unless the host refused them.
        """
        if len(self.failed_since_success[host]) < (1 if self.rests[host] else IN_A_ROW):
            return False
        self.rests[host] += 1
        self.in_play.discard(host)
        for job in self.failed_since_success[host]:
            self.attempts[job] = [(name, refused) for name, refused in self.attempts[job] if name != host or refused]
        return True

    def cleared(self, host: str) -> bool:
        """Whether everything that failed on a host has failed elsewhere too."""
        return not self.failed_since_success[host]

    def hopeless(self, host: str) -> bool:
        return self.rests[host] >= MOST_RESTS

    def back(self, host: str) -> None:
        """A host takes jobs again after its rest."""
        self.failed_since_success[host].clear()
        self.in_play.add(host)

    def leave(self, host: str) -> None:
        """A host takes no more jobs."""
        self.in_play.discard(host)

    def _tried(self, job):
        return {name for name, _ in self.attempts.get(job, ())}
