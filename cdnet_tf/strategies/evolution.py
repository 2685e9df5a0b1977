"""Evolves networks by NSGA-II (Deb et al., 2002), as pymoo implements it.

pymoo is imported in functions: this takes a second, which no other strategy needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Choice = tuple[int, ...]


def evolve(
    objectives: Callable[[Choice], Sequence[float]],
    *,
    sizes: Sequence[int],
    population: int,
    generations: int,
    seed: int,
    num_objectives: int = 1,
    excess: Callable[[Choice], Sequence[float]] | None = None,
    num_limits: int = 0,
    first: Sequence[Choice] | None = None,
) -> list[Choice]:
    """Evolves choices, and returns the best of the last generation.

    A choice is an index for each block, and for whatever else is chosen. The result
    depends on the seed and the objectives alone.

    Args:
      objectives: returns what of a choice is to be small. It is called only for choices
        that break no limit.
      sizes: how many values each index of a choice has.
      population: number of choices in a generation.
      generations: number of generations, with the first.
      seed: seed of all random draws.
      num_objectives: number of values that `objectives` returns.
      excess: returns by how much a choice breaks each limit, 0 or less if it keeps the
        limit. Choices that break no limit come before those that do.
      num_limits: number of values that `excess` returns.
      first: the first generation, two choices or more. By default it is drawn evenly.

    Returns:
      The choices of the last generation that break no limit, and that no other choice
      beats in all objectives. If all choices break a limit, all of them.
    """
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.operators.crossover.ux import UX
    from pymoo.operators.sampling.rnd import IntegerRandomSampling
    from pymoo.optimize import minimize

    result = minimize(
        _problem(objectives, sizes, num_objectives, excess, num_limits),
        NSGA2(
            pop_size=population,
            sampling=IntegerRandomSampling() if first is None else np.array(first),
            crossover=UX(),
            mutation=_mutation(sizes),
        ),
        ("n_gen", generations),
        seed=seed,
    )
    front = result.X if result.X is not None else result.pop.get("X")
    return sorted({tuple(int(i) for i in x) for x in np.atleast_2d(front)})


def _problem(
    objectives: Callable[[Choice], Sequence[float]],
    sizes: Sequence[int],
    num_objectives: int,
    excess: Callable[[Choice], Sequence[float]] | None,
    num_limits: int,
) -> Any:
    """Puts objectives `F` and limits `G` in the form that pymoo minimises."""
    from pymoo.core.problem import ElementwiseProblem

    class Space(ElementwiseProblem):
        def __init__(self):
            super().__init__(
                n_var=len(sizes),
                n_obj=num_objectives,
                n_ieq_constr=num_limits,
                xl=0,
                xu=np.array(sizes) - 1,
                vtype=int,
            )

        def _evaluate(self, x, out, *args, **kwargs):
            choice = tuple(int(i) for i in x)
            broken = np.array(excess(choice) if excess else (), float)
            # The excess alone decides between choices that break a limit.
            unknown = np.zeros(num_objectives)
            out["F"] = unknown if (broken > 0).any() else np.array(objectives(choice))
            if excess:
                out["G"] = broken

    return Space()


def _mutation(sizes: Sequence[int]) -> Any:
    from pymoo.core.mutation import Mutation

    class Redraw(Mutation):
        """Draws one index anew on average, each with the same probability."""

        def _do(self, problem, X, *args, random_state=None, **kwargs):
            drawn = random_state.integers(0, sizes, X.shape)
            return np.where(random_state.random(X.shape) < 1 / len(sizes), drawn, X)

    return Redraw()
