/** Copying text to the clipboard. */

export async function copied(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // an old browser, or one that denies access to the clipboard
    const area = document.createElement("textarea");
    area.style.position = "fixed";
    area.style.opacity = "0";
    area.setAttribute("aria-hidden", "true");
    const focused = document.activeElement as HTMLElement | null;
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    focused?.focus();
    return done;
  }
}
