// The API key that a person types where a node wants one. It stays in its field: it is gone with the page.

const at = (id) => document.getElementById(id);

/** The headers that show the key; none while there is none. */
export function keyHeaders() {
  const key = at("chat-key").value.trim();
  return key === "" ? {} : { Authorization: `Bearer ${key}` };
}

/** The node let nobody in without a key, or not with this one. */
export function askForKey() {
  at("chat-key-row").hidden = false;
  at("chat-key").focus();
}
