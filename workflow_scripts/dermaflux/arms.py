"""Arms of the classifier study: how many real and synthetic images each trains on. Paper section 3."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Arm:
    """Real images, and synthetic ones of a generator (None where there are none), both labels together."""

    real: int
    generator: str | None
    synthetic: int

    @property
    def name(self):
        """Such as real2500_dermaflux4375, real2500, dermaflux2500."""
        parts = [f"real{self.real}"] if self.real else []
        return "_".join(parts + ([f"{self.generator}{self.synthetic}"] if self.synthetic else []))

    def facts(self):
        """The arm as a dict, its name included."""
        return {"generator": self.generator, "name": self.name, "real": self.real, "synthetic": self.synthetic}


def _mixed(real, generator, ratio):
    synthetic = round(real * ratio)
    return Arm(real, generator if synthetic else None, synthetic)


def all_arms(classify):
    """Every arm of the settings `classify` (config.Classify), each once, in the order: sweep, synthetic only, comparison."""
    sweeps = [classify.sweep, *classify.comparison]
    mixed = [[_mixed(r, s.generator, q) for r in s.real_images for q in s.synthetic_per_real] for s in sweeps]
    alone = [Arm(0, only.generator, n) for only in classify.synthetic_only for n in only.images]
    arms = [*mixed[0], *alone, *(arm for some in mixed[1:] for arm in some)]
    return list(dict.fromkeys(arms))


def needed(arms, source):
    """How many images of `source` (real, or a generator's name) the largest of `arms` draws; 0 where none does."""
    sizes = [arm.real if source == "real" else arm.synthetic if arm.generator == source else 0 for arm in arms]
    return max(sizes, default=0)
