from zeroq.precision.frontier import pareto_frontier
