"""Arithmetic that people write into a node: numbers, comparisons, choices and a few functions; nothing else of Python.

Source: ComfyUI ``nodes_math.py`` (which functions and names there are).
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from .problems import NodeProblem

LONGEST = 2000  # characters
GREATEST_POWER = 4000  # an exponent, as in ComfyUI
GREATEST = 2**4096  # numbers beyond it are refused before they grow further

_BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: lambda base, exponent: _power(base, exponent),
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
}
_UNARY: Mapping[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Not: operator.not_,
    ast.Invert: operator.invert,
}
_COMPARED: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, group: item in group,
    ast.NotIn: lambda item, group: item not in group,
}


def _power(base: Any, exponent: Any) -> Any:
    if abs(exponent) > GREATEST_POWER:
        raise NodeProblem(f"the exponent {exponent} is beyond {GREATEST_POWER}")
    return pow(base, exponent)


def _sum(*values: Any) -> Any:
    return sum(values[0]) if len(values) == 1 and isinstance(values[0], list | tuple) else sum(values)


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "sum": _sum,
    "min": min,
    "max": max,
    "abs": abs,
    "round": round,
    "pow": _power,
    "sqrt": math.sqrt,
    "ceil": math.ceil,
    "floor": math.floor,
    "log": math.log,
    "log2": math.log2,
    "log10": math.log10,
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "int": int,
    "float": float,
}


def evaluate(expression: str, names: Mapping[str, Any]) -> bool | int | float:
    """The value of `expression` with these names.

    Raises:
        NodeProblem: it is none, uses what is not there, or has no finite number as its value.
    """
    if not expression.strip():
        raise NodeProblem("the expression is empty", remedy="write one, such as a + b")
    if len(expression) > LONGEST:
        raise NodeProblem(f"the expression is longer than {LONGEST} characters")
    try:
        value = _value(ast.parse(expression.strip(), mode="eval").body, names)
    except NodeProblem:
        raise
    except (SyntaxError, ValueError, TypeError, ArithmeticError, LookupError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise NodeProblem(f"the expression {expression!r} has no value: {reason}", remedy="correct it") from error
    if not isinstance(value, bool | int | float):
        raise NodeProblem(f"the expression {expression!r} gives {type(value).__name__}, not a number")
    return value


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=bool() | int() | float() as value):
            result: Any = value
        case ast.Name(id=name):
            if name not in names:
                raise NodeProblem(f"the expression uses {name!r}, which is not wired", remedy="wire it")
            result = names[name]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            result = _BINARY[type(op)](_value(left, names), _value(right, names))
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            result = _UNARY[type(op)](_value(operand, names))
        case ast.BoolOp(op=op, values=values):
            result = _either(values, names, stop=isinstance(op, ast.Or))
        case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in _COMPARED for op in ops):
            result = _compared(left, ops, others, names)
        case ast.IfExp(test=test, body=body, orelse=other):
            result = _value(body if _value(test, names) else other, names)
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_value(item, names) for item in items]
        case ast.Subscript(value=group, slice=index):
            result = _value(group, names)[_value(index, names)]
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
            result = _FUNCTIONS[name](*(_value(argument, names) for argument in arguments))
        case _:
            raise NodeProblem(
                f"the expression uses {ast.unparse(node)!r}", remedy="use numbers, names, operators and functions"
            )
    if isinstance(result, int) and abs(result) > GREATEST:
        raise NodeProblem("the expression grows beyond all measure")
    return result


def _either(values: list[ast.expr], names: Mapping[str, Any], *, stop: bool) -> Any:
    result: Any = None
    for value in values:
        result = _value(value, names)
        if bool(result) == stop:
            return result
    return result


def _compared(left: ast.expr, ops: list[ast.cmpop], others: list[ast.expr], names: Mapping[str, Any]) -> bool:
    before = _value(left, names)
    for op, other in zip(ops, others, strict=True):
        after = _value(other, names)
        if not _COMPARED[type(op)](before, after):
            return False
        before = after
    return True
