// The page's address names a conversation, and a turn in it, so that reload and back find them: "#c/<conversation>", "#c/<conversation>/<turn>".
export const addressOf = (conversation, turn) => (conversation ? `#c/${conversation}${turn ? `/${turn}` : ""}` : "#");

export function placeInAddress() {
  const [, conversation = null, turn] = location.hash.match(/^#c\/([^/]+)(?:\/(\d+))?$/) ?? [];
  return { conversation, turn: turn ? Number(turn) : null };
}

// Goes there, also where the address is that one already.
export function visit(address) {
  if (location.hash === address) dispatchEvent(new HashChangeEvent("hashchange"));
  else location.hash = address;
}
