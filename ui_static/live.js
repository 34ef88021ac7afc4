// The connection to the node's event stream, which is made again whenever it is lost.

const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 5000;

/** How long to wait before attempt number `attempt` (from 0). */
export function backoffMs(attempt) {
  return Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** attempt);
}

/**
 * Follow the cluster's facts. `onEvent` gets what facts.js reduces, `onLost` is called once per loss;
 * the first event after it says that the connection is back.
 */
export function follow(url, { onEvent, onLost }) {
  let attempt = 0;
  const connect = () => {
    const source = new EventSource(url);
    source.addEventListener("snapshot", (message) => {
      attempt = 0;
      onEvent({ kind: "snapshot", cluster: JSON.parse(message.data) });
    });
    source.addEventListener("change", (message) => {
      onEvent({ kind: "change", change: JSON.parse(message.data) });
    });
    // EventSource gives up for good after some errors (a 503, say) and waits long after others: close it
    // and connect anew, so that there is one policy for all of them.
    source.addEventListener("error", () => {
      source.close();
      onLost();
      setTimeout(connect, backoffMs(attempt));
      attempt += 1;
    });
  };
  connect();
}
