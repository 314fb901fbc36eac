import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig({
  // Tests are outside of this folder, with those of the Python package.
  resolve: { alias: { "@": here("src") } },
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: process.env.EXPLORER_OUT ?? here("../page"),
    emptyOutDir: false, // index.html is there, too
    target: "es2022",
    lib: {
      entry: here("src/main.tsx"),
      formats: ["es"],
      fileName: () => "explorer.js",
      cssFileName: "explorer",
    },
    minify: true,
    reportCompressedSize: false,
    rolldownOptions: { output: { minify: true } }, // otherwise a library keeps its white space
  },
  define: { "process.env.NODE_ENV": '"production"' },
  server: { fs: { allow: [here("../../..")] } },
  test: {
    root: here("../../.."),
    dir: here("../../../tests/explorer/web"),
    include: ["**/*.test.{ts,tsx}"],
    globals: true,
    isolate: false,
  },
});
