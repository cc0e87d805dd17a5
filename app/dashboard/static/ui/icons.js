// Icons as strokes on a 24 × 24 grid, coloured by the text around them. They are decoration: labels are words.
import { html } from "../core/html.js";

const PATHS = {
  jobs: "M4 6h16M4 12h16M4 18h10",
  experiments: "M9 3h6M10 3v6L4.7 18.2A1.9 1.9 0 0 0 6.3 21h11.4a1.9 1.9 0 0 0 1.6-2.8L14 9V3M7.5 15h9",
  evals: "M5 4h14v16H5zM8.5 9l1.5 1.5L13 7.5M8.5 15l1.5 1.5 3-3M15.5 9.5h1M15.5 15.5h1",
  datasets: "M4 6c0-1.7 3.6-3 8-3s8 1.3 8 3-3.6 3-8 3-8-1.3-8-3zm0 0v12c0 1.7 3.6 3 8 3s8-1.3 8-3V6M4 12c0 1.7 3.6 3 8 3s8-1.3 8-3",
  compare: "M4 19V9m5 10V5m6 14v-7m5 7V8",
  playground: "M5 5h14v10H10l-5 4z",
  graders: "M4 13l5 5L20 6",
  settings: "M4 7h9m4 0h3M15 5v4M4 12h3m4 0h9M9 10v4M4 17h9m4 0h3M15 15v4",
  webhook: "M4 12h10m-4-5l5 5-5 5M20 4v16",
  plus: "M12 5v14M5 12h14",
  play: "M8 5l11 7-11 7z",
  pause: "M9 5v14M15 5v14",
  stop: "M6 6h12v12H6z",
  copy: "M9 9h11v11H9zM5 15V4h11",
  clone: "M8 8h12v12H8zM4 16V4h12M14 11v6M11 14h6",
  download: "M12 4v11m-5-4l5 5 5-5M5 20h14",
  left: "M15 5l-7 7 7 7",
  right: "M9 5l7 7-7 7",
  search: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM16 16l5 5",
  info: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 11v6M12 7.5v.5",
  warn: "M12 4L2.5 20h19zM12 10v5M12 17.5v.3",
  ok: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM8 12.5l2.7 2.7L16 9.5",
  bad: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM9 9l6 6M15 9l-6 6",
  wait: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 7v5l3.5 2",
  key: "M14.5 9.5a4.5 4.5 0 1 0-3.6 4.4L13 16h3v3h4v-4l-5.3-5.3",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.4 1.4M17.6 17.6L19 19M19 5l-1.4 1.4M6.4 17.6L5 19",
  moon: "M20 14A8.5 8.5 0 0 1 10 4a8.5 8.5 0 1 0 10 10z",
  system: "M4 5h16v11H4zM9 20h6M12 16v4",
  empty: "M4 7l8-4 8 4v10l-8 4-8-4zM4 7l8 4 8-4M12 11v10",
  reset: "M4 12a8 8 0 1 0 2.5-5.8M4 4v5h5",
  chart: "M4 4v16h16M8 15l4-5 3 3 5-7",
};

export function Icon({ name }) {
  return html`<svg
    viewBox="0 0 24 24"
    fill="none"
    stroke="currentColor"
    stroke-width="1.8"
    stroke-linecap="round"
    stroke-linejoin="round"
    aria-hidden="true"
  >
    <path d=${PATHS[name]} />
  </svg>`;
}

export function Logo() {
  const line = { fill: "none", "stroke-width": 3, "stroke-linecap": "round" };
  return html`<svg viewBox="0 0 32 32" aria-hidden="true">
    <path d="M5 26V17" stroke="currentColor" ...${line} />
    <path d="M5 18c0-8 8-11 21-11" stroke="var(--n)" ...${line} />
    <path d="M5 18c2 6 9 8 21 8" stroke="var(--h)" ...${line} />
  </svg>`;
}
