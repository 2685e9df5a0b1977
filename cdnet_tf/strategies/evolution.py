"""Evolution of networks by NSGA-II, as pymoo implements it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Choice = tuple[int, ...]


def evolve(
    objectives: Callable[[Choice], Sequence[float]],
    *,
    blocks: int,
    branches: int,
    population: int,
    generations: int,
    seed: int,
    num_objectives: int = 1,
    excess: Callable[[Choice], Sequence[float]] | None = None,
    num_limits: int = 0,
) -> list[Choice]:
    """Evolves choices of a branch for each block.

    What it draws depends on the seed and on the objectives alone.

    Args:
      objectives: of a choice, all to be made small.
      blocks: of a network.
      branches: of each block.
      population: networks in a generation.
      generations: the first one, which is drawn evenly, counts.
      seed: of everything that is drawn.
      num_objectives: how many there are.
      excess: by how much a choice breaks each limit; 0 or less where it keeps it.
        Choices that break none come before those that do.
      num_limits: how many there are.

    Returns:
      The choices of the last generation that no other one of it beats in all
      objectives; of those that break no limit, if there are any.
    """
    # Takes a second, which other strategies need not wait for.
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.mutation import Mutation
    from pymoo.core.problem import ElementwiseProblem
    from pymoo.operators.crossover.ux import UX
    from pymoo.operators.sampling.rnd import IntegerRandomSampling
    from pymoo.optimize import minimize

    class Space(ElementwiseProblem):
        def __init__(self):
            super().__init__(
                n_var=blocks,
                n_obj=num_objectives,
                n_ieq_constr=num_limits,
                xl=0,
                xu=branches - 1,
                vtype=int,
            )

        def _evaluate(self, x, out, *args, **kwargs):
            choice = tuple(int(i) for i in x)
            out["F"] = np.array(objectives(choice), float)
            if excess:
                out["G"] = np.array(excess(choice), float)

    class Redraw(Mutation):
        """Draws a branch anew with probability 1 / blocks for each block."""

        def _do(self, problem, X, *args, random_state=None, **kwargs):
            drawn = random_state.integers(0, branches, X.shape)
            return np.where(random_state.random(X.shape) < 1 / blocks, drawn, X)

    result = minimize(
        Space(),
        NSGA2(
            pop_size=population,
            sampling=IntegerRandomSampling(),
            crossover=UX(),
            mutation=Redraw(),
        ),
        ("n_gen", generations),
        seed=seed,
    )
    front = result.X if result.X is not None else result.pop.get("X")
    return sorted({tuple(int(i) for i in x) for x in np.atleast_2d(front)})
