// Single keys as shortcuts, which can be switched off.

/** Call the action of a key, unless it is typed into a field or shortcuts are switched off. */
export function shortcuts(actions, isOn) {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.altKey || event.isComposing) return;
    const control = event.ctrlKey || event.metaKey;
    const key = event.key.toLowerCase();
    const name = control ? (event.shiftKey && key === "z" ? "y" : key) : key;
    const action = actions[name];
    // With Ctrl, only undo and redo are shortcuts. File and text fields have keys of their own.
    if (!action || (control ? !"zy".includes(name) : !isOn())) return;
    if (event.target.matches?.("input:not([type=checkbox], [type=range]), textarea, select")) return;
    event.preventDefault();
    action(event);
  });
}
