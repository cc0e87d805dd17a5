"""Relations of one or two sides each, as the numbers that satisfy them where that can be solved."""

from functools import reduce
from typing import Any

import sympy
from sympy import Expr, Interval, S, Set

from .expressions import read_expression
from .notation import Unreadable
from .shapes import Answer, Region, Relation


def ordered(sides: list[str], operators: list[str]) -> Answer:
    """What holds between sides, which ``operators`` stand between: 0 < x <= 3. Raises Unreadable."""
    values = [read_expression(side)[0] for side in sides]
    names = sorted(set().union(*(value.free_symbols for value in values)), key=str)
    if len(names) == 1 and all(operator != "=" for operator in operators):
        sets = [
            _solutions(left, operator, right, names[0])
            for left, operator, right in zip(values, operators, values[1:], strict=False)
        ]
        if all(one is not None for one in sets):
            return Region(reduce(lambda a, b: sympy.Intersection(a, b), sets), str(names[0]))  # type: ignore[arg-type]
    if len(operators) != 1:
        raise Unreadable("its chain of relations is not understood")
    operator, difference = operators[0], values[0] - values[1]
    if operator in (">", ">="):
        operator, difference = operator.replace(">", "<"), -difference
    return Relation(operator, difference)


def _solutions(left: Expr, operator: str, right: Expr, name: Any) -> Set | None:
    """The real numbers that satisfy a relation; None where it is not solved."""
    if left == name and not right.has(name):
        bound = right
    elif right == name and not left.has(name):
        bound, operator = left, {"<": ">", ">": "<", "<=": ">=", ">=": "<="}.get(operator, operator)
    else:
        x: Any = sympy.Dummy("x", real=True)
        relation = {"<": sympy.Lt, ">": sympy.Gt, "<=": sympy.Le, ">=": sympy.Ge, "!=": sympy.Ne}[operator]
        difference = sympy.expand((left - right).subs(name, x))
        if not difference.is_polynomial(x) or sympy.degree(difference, x) > 4:
            return None
        return sympy.solveset(relation(difference, 0), x, S.Reals)
    if not bound.is_extended_real:
        return None
    return {
        "<": lambda: Interval.open(-sympy.oo, bound),
        ">": lambda: Interval.open(bound, sympy.oo),
        "<=": lambda: Interval(-sympy.oo, bound),
        ">=": lambda: Interval(bound, sympy.oo),
        "!=": lambda: S.Reals - sympy.FiniteSet(bound),
    }[operator]()
