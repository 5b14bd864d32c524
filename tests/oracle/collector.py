"""What the two collectors stored, written from `domain.md` sections 2.3 and 2.5.

Slow and plain: dictionaries, one frame at a time, in whole cents and whole contracts.
"""

from __future__ import annotations


def collect(frames, *, faulty):
    """Rows of frames.

    Args:
        frames: dictionaries in order: market, epoch, and either `levels` {(side, bp): centi} or
            side, price_bp, size_centi.
        faulty: which collector.

    Returns:
        ("snapshot", frame, {(side, cents): contracts}) or ("delta", frame, old, new, action).
    """
    true, held, connected = {}, {}, {}
    rows = []
    for number, frame in enumerate(frames):
        market = frame["market"]
        is_new = connected.get(market) != frame["epoch"]
        if is_new:
            true[market], held[market] = {}, {}
        if "levels" in frame:
            connected[market] = frame["epoch"]
            true[market] = {}
            for (side, price_bp), centi in frame["levels"].items():
                level = (side, price_bp // 100)
                if level[1] > 0:
                    true[market][level] = true[market].get(level, 0) + centi
            contracts = {level: centi // 100 for level, centi in true[market].items()}
            contracts = {level: size for level, size in contracts.items() if size}
            held[market] = {
                level: size for level, size in contracts.items() if not (faulty and level[1] > 50)
            }
            if is_new:
                rows.append(("snapshot", number, contracts))
            continue
        level = (frame["side"], frame["price_bp"] // 100)
        if level[1] == 0:
            continue
        before = true[market].get(level, 0)
        true[market][level] = max(0, before + frame["size_centi"])
        change = true[market][level] // 100 - before // 100
        if not change:
            continue
        old = held[market].get(level, 0)
        new = max(0, old + change)
        held[market][level] = new
        if change > 0:
            action = "add" if old == 0 else "update"
        else:
            action = "remove" if new == 0 else "update"
        rows.append(("delta", number, old, new, action))
    return rows
