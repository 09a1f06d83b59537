#!/usr/bin/python3
"""Answers lines `A B` on stdin with `<`, `=` or `>` in apt's order of versions.

With --time COUNT, times COUNT comparisons of those pairs instead and prints nanoseconds for each.
Needs python3-apt.
"""
import sys
import time

import apt_pkg

apt_pkg.init_system()
compare = apt_pkg.version_compare

if sys.argv[1:2] == ["--time"]:
    count = int(sys.argv[2])
    pairs = [line.split() for line in sys.stdin]
    rounds = max(1, count // len(pairs))
    # The loop and the call cost too: the same with a function that does nothing.
    best = {}
    for name, function in (("compare", compare), ("nothing", lambda a, b: 0)):
        for _ in range(5):
            start = time.perf_counter_ns()
            for _ in range(rounds):
                for a, b in pairs:
                    function(a, b)
            each = (time.perf_counter_ns() - start) / (rounds * len(pairs))
            best[name] = min(each, best.get(name, each))
    print(f"{best['compare']:.1f} ns with the call, {best['compare'] - best['nothing']:.1f} without")
else:
    for line in sys.stdin:
        a, b = line.split()
        order = compare(a, b)
        print("<" if order < 0 else ">" if order > 0 else "=")
