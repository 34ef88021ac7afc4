// The page: follows the cluster's facts and shows them, at most once per frame.

import { Announcer } from "./announcer.js";
import { Chat } from "./chat.js";
import { showCluster } from "./cluster.js";
import { instances, NOTHING, reduce } from "./facts.js";
import { follow } from "./live.js";
import { Place } from "./place.js";

const at = (id) => document.getElementById(id);

const announcer = new Announcer(at("announcer"));
const chat = new Chat((text) => announcer.say(text));
const place = new Place((text) => announcer.say(text));
let state = NOTHING;
let due = false;

function show() {
  due = false;
  if (state === NOTHING) return;
  showCluster(state, Date.now() / 1000);
  chat.offer(state);
  place.offer(state);
  announcer.follow(instances(state));
}

function showSoon() {
  if (due) return;
  due = true;
  requestAnimationFrame(show);
}

function showLost() {
  const banner = at("banner");
  document.body.classList.add("lost");
  if (banner.hidden) banner.textContent = "Connection to the node lost, retrying. What is shown may be out of date.";
  banner.hidden = false;
}

function showFound() {
  document.body.classList.remove("lost");
  at("banner").hidden = true;
}

follow("/v1/cluster/events", {
  onEvent(event) {
    state = reduce(state, event);
    showFound();
    showSoon();
  },
  onLost: showLost,
});

at("base-url").textContent = `${location.origin}/v1`;
setInterval(showSoon, 1000); // ages only: facts come by themselves
