"""A straight line through what was measured, as steps are."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Line:
    """A line fitted to points (x, y) with weights that fade: exponentially weighted linear regression."""

    weight: float = 0.0
    x: float = 0.0
    y: float = 0.0
    variance: float = 0.0
    covariance: float = 0.0

    def seen(self, x: float, y: float, forgetting: float) -> "Line":
        """The line after one more point (West's update of weighted means and moments, 1979)."""
        weight = self.weight * forgetting + 1.0
        dx, dy = x - self.x, y - self.y
        mean_x, mean_y = self.x + dx / weight, self.y + dy / weight
        return Line(
            weight,
            mean_x,
            mean_y,
            self.variance * forgetting + dx * (x - mean_x),
            self.covariance * forgetting + dx * (y - mean_y),
        )

    @property
    def slope(self) -> float:
        """Never negative, and never so steep that the line is below zero at x = 0: neither can be."""
        if self.variance <= 0.0 or self.x <= 0.0:
            return 0.0
        return min(max(self.covariance / self.variance, 0.0), self.y / self.x)

    def at(self, x: float) -> float:
        return max(self.y + self.slope * (x - self.x), 0.0)
