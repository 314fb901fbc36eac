import { createContext } from "preact";
import { useContext } from "preact/hooks";
import type { Store } from "@/store";

/** The store of a page, and the prefix of its ids, which differs where a document has several. */
export interface Home {
  store: Store;
  prefix: string;
  isEmbedded: boolean;
}

export const HomeContext = createContext<Home | null>(null);

export function useHome(): Home {
  const home = useContext(HomeContext);
  if (!home) throw new Error("a view outside of a page");
  return home;
}

export const useStore = (): Store => useHome().store;

/** Return a function that makes ids of this page. */
export function useIds(): (name: string) => string {
  const { prefix } = useHome();
  return (name) => prefix + name;
}
