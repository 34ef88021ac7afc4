// The few ways in which the page touches the document: clone a template, set text, patch a list by key.

/** A copy of a template's one element, and its parts by the name in their `data-slot`. */
export function clone(templateId) {
  const element = document.getElementById(templateId).content.firstElementChild.cloneNode(true);
  const slots = {};
  for (const part of element.querySelectorAll("[data-slot]")) slots[part.dataset.slot] = part;
  return { element, slots };
}

/** Set a node's text, and leave the document alone where nothing changes (selections survive). */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Set a node's text, and hide it while there is none. */
export function setOptional(node, text) {
  setText(node, text);
  node.hidden = text === "";
}

/** Set one `data-…` attribute, which is what styles look at. */
export function mark(node, name, value) {
  if (node.dataset[name] !== value) node.dataset[name] = value;
}

/** The width of a bar, as a share from 0 to 1. */
export function setShare(bar, share) {
  bar.style.setProperty("--share", String(Math.min(1, Math.max(0, share))));
}

const shown = new WeakMap();

/**
 * Make `container` show one view per item, in order. A view is `{ element, update(item) }` and is kept
 * for as long as its key is: an element that stays is never moved, so focus and selection stay too.
 */
export function patchList(container, items, keyOf, makeView) {
  const views = shown.get(container) ?? new Map();
  shown.set(container, views);
  const keys = new Set(items.map(keyOf));
  for (const [key, view] of views) {
    if (!keys.has(key)) {
      view.element.remove();
      views.delete(key);
    }
  }
  let next = container.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let view = views.get(key);
    if (view === undefined) {
      view = makeView(item);
      views.set(key, view);
    }
    if (view.element === next) next = next.nextElementSibling;
    else container.insertBefore(view.element, next);
    view.update(item);
  }
}
