"""How long a transform should be: an FFT of 511 = 7 · 73 numbers takes four times as long as one of 512.

No exercise stands here and none is imported, so that promoted code may import it whichever module comes first.
"""

PRIMES = (2, 3, 5)


def fast_length(n: int) -> int:
    """The smallest length from n on that has no prime factors but 2, 3 and 5, for which real FFTs are fast.

    Raises: ValueError if n is less than 1.
    """
    if n < 1:
        raise ValueError(f"n is {n}; a transform has at least one number")
    while True:
        rest = n
        for prime in PRIMES:
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 1
