// What happened to a run, as marks on the axis of steps.
import { colour } from "./colours.js";

const TOKENS = { attempt: "--live", checkpoint: "--c5", warn: "--wait", error: "--bad", pause: "--wait" };
const NEAR = 6; // pixels

/** A uPlot plugin that draws the marks of a store: `[{step, kind, text}]`. */
export function marksPlugin(marks) {
  let tip = null;
  const place = (u, step) => u.valToPos(step, "x");
  return {
    hooks: {
      init: (u) => {
        tip = document.createElement("div");
        tip.className = "mark-tip";
        tip.hidden = true;
        u.over.append(tip);
      },
      draw: (u) => {
        const { ctx, bbox } = u;
        const ratio = devicePixelRatio;
        ctx.save();
        ctx.beginPath();
        // Room for a whole triangle at the first and the last step.
        ctx.rect(bbox.left - 5 * ratio, bbox.top - 8 * ratio, bbox.width + 10 * ratio, bbox.height + 8 * ratio);
        ctx.clip();
        for (const { step, kind } of marks.get()) {
          if (step < u.scales.x.min || step > u.scales.x.max) continue;
          const x = Math.round(u.valToPos(step, "x", true)) + 0.5;
          ctx.strokeStyle = colour(TOKENS[kind], 0.45);
          ctx.fillStyle = colour(TOKENS[kind]);
          ctx.lineWidth = ratio;
          ctx.setLineDash([2 * ratio, 3 * ratio]);
          ctx.beginPath();
          ctx.moveTo(x, bbox.top);
          ctx.lineTo(x, bbox.top + bbox.height);
          ctx.stroke();
          ctx.beginPath();
          ctx.moveTo(x - 4 * ratio, bbox.top - 5 * ratio);
          ctx.lineTo(x + 4 * ratio, bbox.top - 5 * ratio);
          ctx.lineTo(x, bbox.top + 2 * ratio);
          ctx.fill();
        }
        ctx.restore();
      },
      setCursor: (u) => {
        const { left } = u.cursor;
        const near = left < 0 ? [] : marks.get().filter(({ step }) => Math.abs(place(u, step) - left) <= NEAR);
        tip.hidden = near.length === 0;
        if (!near.length) return;
        tip.textContent = near.map(({ step, text }) => `step ${step}: ${text}`).join("\n");
        const right = left > u.over.clientWidth / 2;
        tip.style.left = right ? "auto" : `${left + 8}px`;
        tip.style.right = right ? `${u.over.clientWidth - left + 8}px` : "auto";
      },
    },
  };
}
