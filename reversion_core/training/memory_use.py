"""What a training does to fit into a device's memory: the same updates, each stage slower than the one before."""

from collections.abc import Callable


class MemoryUse:
    """How a training uses memory at the moment; what it changes, it tells.

    recompute: with gradient checkpointing; in_turns: network and text encoders are on the device by turns.
    """

    def __init__(self, low: bool, can_take_turns: bool, tell: Callable[[str], None]):
        """low: the least from the start; can_take_turns: from `host.can_take_turns`."""
        self.recompute, self.in_turns = low, False
        self._low, self._can_take_turns, self._tell = low, can_take_turns, tell

    @property
    def stage(self) -> tuple[bool, bool]:
        """What the models have to be borrowed anew for when it changes."""
        return self.recompute, self.in_turns

    @property
    def may_take_turns(self) -> bool:
        return self._can_take_turns and not self.in_turns

    def take_turns(self, why: str) -> None:
        self.in_turns = True
        self._tell(f"{why}; the model and its text encoder take turns on the device, which takes more time")

    def choose(self, plan) -> None:
        """Gradient checkpointing where not one picture fits without; turns where none fits with it.

        plan: from `host.logged_memory_plan`, None where nothing is known.
        """
        if plan is None:
            return
        if not self.recompute and plan.pictures == 0:
            self.recompute = True
        elif plan.pictures_checkpointed == 0 and self.may_take_turns:
            self.take_turns(f"{plan.free / 1e9:.1f} GB are free beside the model and its text encoder")

    def begin(self, learner, plan) -> None:
        """Let a learner begin with as many pictures at once as fit."""
        if self._low:
            learner.samples_per_pass = 1
        elif plan is not None:
            fitting = plan.pictures_checkpointed if self.recompute else plan.pictures
            if fitting < learner.samples_per_pass or self.recompute:
                learner.samples_per_pass = min(max(fitting, 1), learner.samples_per_pass)
                free, how = plan.free / 1e9, " and gradient checkpointing" if self.recompute else ""
                self._tell(f"{free:.1f} GB are free; trains with {learner.samples_per_pass} pictures at once{how}")

    def reduce(self, learner, unload_others: Callable[[], bool]) -> bool:
        """Go on to the next stage after memory ran out: without other models, fewer samples per pass, gradient
        checkpointing, turns. False where all are in use already.

        learner: None before there is one; unload_others(): whether other models left the device.
        """
        if unload_others():
            self._tell("out of memory; continuing after other models left the device")
        elif learner is not None and learner.samples_per_pass > 1:
            learner.samples_per_pass = (learner.samples_per_pass + 1) // 2
            self._tell(f"out of memory; continuing with {learner.samples_per_pass} pictures at once")
        elif not self.recompute:
            self.recompute = True
            self._tell("out of memory; continuing more slowly, with gradient checkpointing")
        elif self.may_take_turns:
            self.take_turns("out of memory")
        else:
            return False
        return True
