"""python3 attacker NAME --site ADDRESS --tools FOLDER --seed N --password WORD: carries out one attack.

Prints its marks as JSON lines: begin (before its first operation), harm, end.
"""
import argparse
import sys

import test
import unseen
import validation
from common import Enemy, mark

ATTACKS = validation.ATTACKS | test.ATTACKS | unseen.ATTACKS

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("name", nargs="?")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--explain", action="store_true")
    parser.add_argument("--site", default="127.0.0.1")
    parser.add_argument("--tools", default=".")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--password", default="")
    options = parser.parse_args()
    if options.list:
        print("\n".join(f"validation {name}" for name in validation.ATTACKS))
        print("\n".join(f"test {name}" for name in test.ATTACKS))
        print("\n".join(f"unseen {name}" for name in unseen.ATTACKS))
        sys.exit()
    if options.explain:
        print("\n".join(f"{name}\t{' '.join((attack.__doc__ or '').split())}" for name, attack in ATTACKS.items()))
        sys.exit()
    mark("begin")
    ATTACKS[options.name](Enemy(options.site, options.tools, options.seed, options.password))
    mark("end")
