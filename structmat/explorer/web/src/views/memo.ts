import { Component, type ComponentChildren } from "preact";

/** Return a component that is rendered again only if a property changed. */
export function memo<P extends object>(view: (props: P) => ComponentChildren) {
  return class extends Component<P> {
    override shouldComponentUpdate(next: P): boolean {
      const [before, after] = [this.props as object, next as object];
      const names = new Set([...Object.keys(before), ...Object.keys(after)]);
      return [...names].some(
        (name) => before[name as keyof typeof before] !== after[name as keyof typeof after],
      );
    }

    override render() {
      return view(this.props as P);
    }
  };
}
