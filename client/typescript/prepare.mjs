// Compiles the package. npm runs it after `npm install` in this folder; and when another project installs the folder. Then
// npm only links it, and puts not one of its dependencies into it: that is done here first.
import { execSync } from "node:child_process";
import { realpathSync } from "node:fs";
import { fileURLToPath } from "node:url";

const here = realpathSync(fileURLToPath(new URL(".", import.meta.url)));
const installed = process.env.npm_config_local_prefix ?? here;
const run = (command) => execSync(command, { cwd: here, stdio: "inherit" });

if (realpathSync(installed) !== here) {
  run("npm ci --ignore-scripts --include=dev --global=false --no-audit --no-fund");
}
run("npm run build");
