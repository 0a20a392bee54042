/**
 * The server's event stream, which reports each change. The browser reconnects by itself, also to a restarted server,
 * unless the server refused the stream.
 *
 * A hidden tab does not listen: a browser has six connections to one server, for all tabs together.
 */

const RETRY_AFTER = 2000;

/** Call `onChange` whenever something may have changed, and at once. */
export function follow(onChange) {
  let stream = null;

  function listen() {
    stream?.close();
    if (document.hidden) return;
    stream = new EventSource("/_page/events");
    stream.onmessage = onChange;
    stream.onerror = ({ target }) => {
      if (target.readyState === EventSource.CLOSED && target === stream) setTimeout(listen, RETRY_AFTER);
      onChange();
    };
    onChange();
  }

  document.addEventListener("visibilitychange", listen);
  listen();
}
