// What a view needs from the server: asked once, or again and again while somebody looks.
import { useCallback, useEffect, useLayoutEffect, useRef, useState } from "./html.js";

/**
 * `{data, error, loading, reload}` of an async `load(signal)`, again when `keys` change, and every `every`
 * milliseconds (a number, or a function of the data; 0: never) while the page is visible.
 */
export function useLoad(load, keys, every = 0) {
  const [state, setState] = useState({ data: null, error: null, loading: true });
  const [round, setRound] = useState(0);
  const reload = useCallback(() => setRound((n) => n + 1), []);
  const latest = useRef(load);
  latest.current = load;
  useEffect(() => {
    setState((old) => ({ ...old, loading: true }));
  }, keys);
  // With the first paint and not after it: the answer is what the page waits for.
  useLayoutEffect(() => {
    const aborter = new AbortController();
    let timer = null;
    const ask = async () => {
      let data = null;
      try {
        data = await latest.current(aborter.signal);
        if (aborter.signal.aborted) return;
        setState({ data, error: null, loading: false });
      } catch (error) {
        if (aborter.signal.aborted) return;
        setState((old) => ({ ...old, error, loading: false }));
      }
      const wait = typeof every === "function" ? every(data) : every;
      if (wait) timer = setTimeout(whenVisible, wait);
    };
    const whenVisible = () => {
      if (document.visibilityState === "visible") ask();
      else document.addEventListener("visibilitychange", ask, { once: true, signal: aborter.signal });
    };
    ask();
    return () => {
      aborter.abort();
      clearTimeout(timer);
    };
  }, [...keys, round]);
  return { ...state, reload };
}

/** `value`, once it has not changed for `ms` milliseconds. */
export function useSettled(value, ms) {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), ms);
    return () => clearTimeout(timer);
  }, [value, ms]);
  return settled;
}
