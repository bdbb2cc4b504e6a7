"""Checks for the exercises: `check.ex01.bytes_per_token(my_function)` says what is right, or names the mistake."""

from kvlib.check import ex01, ex02, ex03, ex04, ex05, ex06, ex07

__all__ = ["ex01", "ex02", "ex03", "ex04", "ex05", "ex06", "ex07"]
