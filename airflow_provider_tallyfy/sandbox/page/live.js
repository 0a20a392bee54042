/**
 * Knowing at once that something changed. The server's event stream says so; while there is none, the page polls
 * every two seconds by itself and tries to have the stream again, so that a restarted server is picked up.
 *
 * A hidden tab does not listen: a browser has six connections to one server, for all tabs together.
 */

const POLL_INTERVAL = 2000;

/** Call `onChange` whenever something may have changed, and at once. */
export function follow(onChange) {
  let stream = null;
  let timer = null;

  function listen() {
    stream = new EventSource("/_page/events");
    stream.onopen = stopPolling;
    stream.onmessage = onChange;
    stream.onerror = () => {
      stopListening();
      timer ??= setInterval(poll, POLL_INTERVAL);
      onChange();
    };
  }

  function poll() {
    onChange();
    if (stream === null) listen();
  }

  function stopListening() {
    stream?.close();
    stream = null;
  }

  function stopPolling() {
    clearInterval(timer);
    timer = null;
  }

  document.addEventListener("visibilitychange", () => {
    stopListening();
    stopPolling();
    if (!document.hidden) poll();
  });
  poll();
}
