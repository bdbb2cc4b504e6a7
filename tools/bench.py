"""How quickly the course answers: a moved slider, a search for cluster plans, and `import kvlib`.

    kernel    a panel's redraw inside Python: new numbers, new picture, new sentence (no browser, no transport)
    browser   from a key press on a slider to the changed text, in JupyterLab and Chromium: our receipt panel against
              the same question written with `interact` and inline matplotlib, in alternating blocks of one run
    plans     cluster plans that `kv.size_cluster` weighs in a second
    import    `import kvlib` against `import numpy`, each time in a fresh process

The table is in milliseconds. Absolute times belong to the machine and its load; the ratios belong to the code.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lab_server
from tqdm import tqdm

PARTS = ("kernel", "browser", "plans", "import")
WARM_UP = 3
OURS = """
from kvlib.show.panels import ReceiptPanel, TOKENS
panel = ReceiptPanel("llama-3.1-70b", tokens=TOKENS[6])
panel.add_class("bench-ours")
panel
"""
THEIRS = """
%matplotlib inline
import ipywidgets as widgets
import matplotlib.pyplot as plt
import kvlib as kv
from kvlib.show.receipt import CARD_BYTES, receipt, receipt_sentence

def draw(model, tokens, weight_dtype, kv_dtype):
    bill = receipt(kv.model(model), tokens, weight_dtype, kv_dtype)
    fig, ax = plt.subplots(figsize=(7, 2))
    ax.barh(0, bill.weight_bytes / kv.GB, label=f"weights: {kv.size(bill.weight_bytes)}")
    ax.barh(0, bill.cache_bytes / kv.GB, left=bill.weight_bytes / kv.GB, label=f"KV cache: {kv.size(bill.cache_bytes)}")
    for card in range(bill.cards + 1):
        ax.axvline(card * CARD_BYTES / kv.GB, color="black")
    ax.set(xlabel="GB", yticks=[], title=f"{bill.cards} cards of 80 GB")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.4), ncols=2)
    plt.show()
    print(receipt_sentence(bill))

tokens = widgets.SelectionSlider(options=panel.tokens.options, value=TOKENS[6], description="Context (tokens)")
menus = {name: widgets.Dropdown(options=panel.controls[name].options, value=panel.controls[name].value)
         for name in ("model", "weight_dtype", "kv_dtype")}
box = widgets.interact(draw, tokens=tokens, **menus).widget
_ = box.add_class("bench-theirs")
"""
# One move: the key goes down in the page; the clock stops at the first frame in which the text and the picture are new.
MOVE = """async ([box, words, key]) => {
    const root = document.querySelector(box), handle = root.querySelector('.noUi-handle');
    const read = () => [...root.querySelectorAll(words)].map(item => item.textContent).join('');
    const before = read();
    handle.focus();
    const start = performance.now();
    const changed = new Promise((done, fail) => {
        const look = () => { const now = read(); if (now && now !== before) { watch.disconnect(); done(); } };
        const watch = new MutationObserver(look);
        watch.observe(root, {subtree: true, childList: true, characterData: true});
        setTimeout(() => { watch.disconnect(); fail(new Error('no new text within 20 s in ' + box)); }, 20000);
    });
    handle.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true, cancelable: true}));
    await changed;
    await Promise.all([...root.querySelectorAll('.jp-OutputArea img')].map(image => image.decode()));
    await new Promise(requestAnimationFrame);
    return performance.now() - start;
}"""
APPROACHES = {
    "our panel": (".bench-ours", "[role=status]"),
    "interact + matplotlib": (".bench-theirs", ".jp-OutputArea-output[data-mime-type*=stdout]"),
}


def kernel_redraws(moves: int) -> dict[str, list[float]]:
    """Milliseconds of `moves` redraws of each panel, after a warm-up; the values come in a fixed random order."""
    from kvlib.show.cost_panels import CostPanel, SharingPanel
    from kvlib.show.panels import TOKENS, CachePanel, ReceiptPanel
    from kvlib.show.session_bills import session_rows
    from kvlib.show.session_panel import DOCUMENTS, SessionPanel

    moved = {
        "receipt": (ReceiptPanel(), "tokens", TOKENS),
        "cache": (CachePanel(), "tokens", TOKENS),
        "cost": (panel := CostPanel(), "card_usd", [value for _, value in panel.controls["card_usd"].options]),
        "sharing": (panel := SharingPanel(), "users", [value for _, value in panel.controls["users"].options]),
        "session": (SessionPanel(questions=50), "document", DOCUMENTS),
    }
    times: dict[str, list[float]] = {}
    for name, (panel, control, values) in moved.items():
        if hasattr(panel, "prediction"):
            panel.prediction.value = 4.3
            panel.reveal()
        chance, taken = random.Random(0), []
        for _ in tqdm(range(moves + 20), desc=f"kernel, {name} panel", leave=False):
            value = chance.choice([value for value in values if value != panel.controls[control].value])
            session_rows.cache_clear()  # bills that nothing remembers yet
            start = time.perf_counter()
            panel.controls[control].value = value
            taken.append(1000 * (time.perf_counter() - start))
        times[f"{name} panel"] = taken[20:]
    return times | {"needle panel": needle_redraws(moves)}


def needle_redraws(moves: int) -> list[float]:
    """Milliseconds until the needle panel has read its 2,048 tokens again, less one sentence or with it back."""
    from kvlib.show.needle_panel import NeedlePanel

    panel = NeedlePanel(tokens=2048)
    panel.prediction.value = 50
    panel.button.click()
    taken = []
    for turn in range(moves + 20):
        start = time.perf_counter()
        panel.buttons[1 + turn // 2 % 10].value ^= True
        taken.append(1000 * (time.perf_counter() - start))
    return taken[20:]


def key_presses(moves: int, blocks: int) -> dict[str, list[float]]:
    """Milliseconds from key to text of `moves` key presses in each of `blocks` blocks of each approach, interleaved.

    Raises:
        RuntimeError: if the notebook did not run, or a script in the page failed.
    """
    import nbformat

    times: dict[str, list[float]] = {name: [] for name in APPROACHES}
    with tempfile.TemporaryDirectory() as folder:
        nbformat.write(lab_server.notebook(OURS, THEIRS), Path(folder) / "bench.ipynb")
        with _page(Path(folder)) as lab, tqdm(total=2 * blocks * (moves + WARM_UP), desc="browser", leave=False) as bar:
            lab.open("bench.ipynb")
            lab.run_all(timeout=120)
            if lab.cell_errors():
                raise RuntimeError(f"the bench notebook failed: {lab.cell_errors()}")
            for box, _ in APPROACHES.values():
                lab.page.locator(f"{box} .noUi-handle").wait_for(timeout=60_000)
            for block in range(blocks):
                for name in list(APPROACHES)[:: 1 if block % 2 == 0 else -1]:
                    for move in range(moves + WARM_UP):
                        pressed = block * (moves + WARM_UP) + move  # four to the right, four back: never at an end
                        key = "ArrowRight" if pressed // 4 % 2 == 0 else "ArrowLeft"
                        lab.page.wait_for_timeout(150)  # nobody is still busy with the move before
                        taken = lab.page.evaluate(MOVE, [*APPROACHES[name], key])
                        if move >= WARM_UP:
                            times[name].append(taken)
                        bar.update()
            if lab.errors:
                raise RuntimeError(f"scripts failed in the page: {lab.errors}")
    return times


def imports(repeats: int) -> dict[str, list[float]]:
    """Milliseconds of `import kvlib` and `import numpy`, alternating, each in a fresh process."""
    program = "import time; start = time.perf_counter(); import {}; print(1000 * (time.perf_counter() - start))"
    times: dict[str, list[float]] = {"kvlib": [], "numpy": []}
    for turn in tqdm(range(repeats + 1), desc="import", leave=False):
        for module, taken in times.items():
            command = [sys.executable, "-c", program.format(module)]
            ran = subprocess.run(command, capture_output=True, text=True, check=True)
            if turn:  # the first turn reads the files from disk
                taken.append(float(ran.stdout))
    return times


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that `percent` per cent of the values do not exceed."""
    return sorted(values)[max(0, -(-len(values) * percent // 100) - 1)]


def report(title: str, times: dict[str, list[float]]) -> Iterator[str]:
    """The lines of one table, slowest named against fastest."""
    yield f"\n{title} (ms)"
    yield f"  {'':<24}{'n':>6}{'p50':>10}{'p95':>10}{'max':>10}"
    for name, taken in times.items():
        numbers = (statistics.median(taken), percentile(taken, 95), max(taken))
        yield f"  {name:<24}{len(taken):>6}" + "".join(f"{number:>10.2f}" for number in numbers)


def ratios(ours: list[float], theirs: list[float]) -> str:
    """How many times longer `theirs` takes than `ours`, at the median and at p95."""
    p50 = statistics.median(theirs) / statistics.median(ours)
    return f"{p50:.2f} times at p50, {percentile(theirs, 95) / percentile(ours, 95):.2f} times at p95"


@contextmanager
def _page(folder: Path) -> Iterator[Any]:
    with lab_server.lab(folder) as url, lab_server.browser() as browser:
        yield lab_server.Lab(browser.new_page(viewport={"width": 1200, "height": 1600}), url)


def main() -> None:
    """Measures, and prints one table for each part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"what to measure: {', '.join(PARTS)} (default: all)")
    parser.add_argument("--redraws", type=int, default=500, help="redraws of each panel in Python (default: 500)")
    parser.add_argument("--moves", type=int, default=24, help="key presses in a block (default: 24)")
    parser.add_argument("--blocks", type=int, default=4, help="blocks of each approach (default: 4)")
    parser.add_argument("--imports", type=int, default=15, help="fresh processes for each import (default: 15)")
    args = parser.parse_args()
    for name in ("redraws", "moves", "blocks", "imports"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be 1 or more; got {getattr(args, name)}")
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"PART must be one of {', '.join(PARTS)}; got {', '.join(sorted(unknown))}")
    wanted = args.parts or PARTS

    if "kernel" in wanted:
        print(*report("Panel redraw in Python", kernel_redraws(args.redraws)), sep="\n")
    if "browser" in wanted:
        if reason := lab_server.no_browser():
            print(f"\nKey press to new text: not measured, {reason}")
        else:
            times = key_presses(args.moves, args.blocks)
            print(*report("Key press to new text in JupyterLab", times), sep="\n")
            print(f"  interact takes longer: {ratios(*times.values())}")
    if "plans" in wanted:
        from kvlib.cluster import plans_per_second

        print(f"\nCluster plans weighed per second: {plans_per_second(seconds=2):,.0f}")
    if "import" in wanted:
        times = imports(args.imports)
        print(*report("Import in a fresh process", times), sep="\n")
        print(f"  numpy takes longer: {ratios(*times.values())}")


if __name__ == "__main__":
    main()
