/**
 * Knowing at once that something changed. The server's event stream says so; while there is none, the page looks
 * every two seconds by itself and tries to have the stream again, so that a restarted server is picked up.
 *
 * A tab that nobody sees does not listen: a browser has six connections to one server, for all tabs together.
 */

const LOOK_EVERY = 2000;

/** Call `onChange` whenever something may have changed, and at once. */
export function follow(onChange) {
  let stream = null;
  let timer = null;

  function listen() {
    stream = new EventSource("/_page/events");
    stream.onopen = stopLooking;
    stream.onmessage = onChange;
    stream.onerror = () => {
      stopListening();
      timer ??= setInterval(look, LOOK_EVERY);
      onChange();
    };
  }

  function look() {
    onChange();
    if (stream === null) listen();
  }

  function stopListening() {
    stream?.close();
    stream = null;
  }

  function stopLooking() {
    clearInterval(timer);
    timer = null;
  }

  document.addEventListener("visibilitychange", () => {
    stopListening();
    stopLooking();
    if (!document.hidden) look();
  });
  look();
}
