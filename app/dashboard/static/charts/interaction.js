// Moving over the axis of steps: drag to zoom, Shift or a finger to pan, the wheel, and the keyboard.

/** How far a range may go: within the data, and at least `least` steps wide. */
export function within([low, high], [from, to], least = 4) {
  const span = Math.min(Math.max(high - low, Math.min(least, to - from)), to - from);
  const start = Math.min(Math.max(low, from), to - span);
  return start <= from && start + span >= to ? null : [start, start + span];
}

/** Let `plot`'s user move the shared `range` (a store of `[low, high]`, or null for everything). */
export function interact(u, range, extent) {
  const over = u.over;
  // Not `over.clientWidth`: after each frame's changes the browser would have to lay out the page to know it.
  const width = () => u.bbox.width / devicePixelRatio;
  const present = () => range.get() ?? extent();
  const set = (wanted) => range.set(within(wanted, extent()));
  const zoom = (factor, centre) => {
    const [low, high] = present();
    const middle = centre ?? (low + high) / 2;
    set([middle - (middle - low) * factor, middle + (high - middle) * factor]);
  };
  const pan = (share) => {
    const [low, high] = present();
    const by = (high - low) * share;
    set([low + by, high + by]);
  };

  over.addEventListener("dblclick", () => range.set(null));
  over.addEventListener(
    "wheel",
    (event) => {
      const sideways = Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey;
      if (event.ctrlKey || event.metaKey) {
        event.preventDefault();
        const x = event.clientX - over.getBoundingClientRect().left;
        zoom(Math.exp(event.deltaY * 0.002), u.posToVal(x, "x"));
      } else if (sideways && range.get() !== null) {
        event.preventDefault();
        pan((event.deltaX || event.deltaY) / width());
      }
    },
    { passive: false },
  );

  let from = null; // where a pan began: the pointer's x, and the range then
  over.addEventListener(
    "pointerdown",
    (event) => {
      if (event.pointerType === "mouse" && !event.shiftKey && event.button !== 1) return;
      if (range.get() === null && event.pointerType !== "mouse") return; // a finger scrolls the page
      from = { x: event.clientX, range: present() };
      over.setPointerCapture(event.pointerId);
    },
    true,
  );
  over.addEventListener("pointermove", (event) => {
    if (from === null) return;
    const [low, high] = from.range;
    const by = ((from.x - event.clientX) / width()) * (high - low);
    set([low + by, high + by]);
  });
  for (const end of ["pointerup", "pointercancel"]) over.addEventListener(end, () => (from = null));
  // uPlot selects with any press of the mouse; while we pan it must not.
  over.addEventListener("mousedown", (event) => event.shiftKey && event.stopImmediatePropagation(), true);

  return {
    /** Handle a key; whether it was one of ours. */
    key(name) {
      const actions = {
        ArrowLeft: () => pan(-0.1),
        ArrowRight: () => pan(0.1),
        "+": () => zoom(0.7),
        "=": () => zoom(0.7),
        "-": () => zoom(1 / 0.7),
        0: () => range.set(null),
        Escape: () => range.set(null),
      };
      actions[name]?.();
      return name in actions;
    },
  };
}
