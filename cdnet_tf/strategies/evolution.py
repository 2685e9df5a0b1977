"""Evolution of networks by NSGA-II, as pymoo implements it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
    """Evolves choices: an index for each block, and for whatever else is chosen.

    What it draws depends on the seed and on the objectives alone.

    Args:
      objectives: of a choice, all to be made small; asked only of choices that break
        no limit.
      sizes: how many values each index of a choice has.
      population: choices in a generation.
      generations: the first one counts.
      seed: of everything that is drawn.
      num_objectives: how many there are.
      excess: by how much a choice breaks each limit; 0 or less where it keeps it.
        Choices that break none come before those that do.
      num_limits: how many there are.
      first: the first generation, two choices or more; by default drawn evenly.

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
            # Of choices that break a limit, by how much alone decides.
            unknown = np.zeros(num_objectives)
            out["F"] = unknown if (broken > 0).any() else np.array(objectives(choice))
            if excess:
                out["G"] = broken

    class Redraw(Mutation):
        """Draws one index anew on average, each with the same probability."""

        def _do(self, problem, X, *args, random_state=None, **kwargs):
            drawn = random_state.integers(0, sizes, X.shape)
            return np.where(random_state.random(X.shape) < 1 / len(sizes), drawn, X)

    result = minimize(
        Space(),
        NSGA2(
            pop_size=population,
            sampling=IntegerRandomSampling() if first is None else np.array(first),
            crossover=UX(),
            mutation=Redraw(),
        ),
        ("n_gen", generations),
        seed=seed,
    )
    front = result.X if result.X is not None else result.pop.get("X")
    return sorted({tuple(int(i) for i in x) for x in np.atleast_2d(front)})
