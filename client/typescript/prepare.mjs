// Compiles the package. npm runs this script after `npm install` in this folder, and when another project installs the
// folder. If another project installs the folder, npm only links the folder. The script then installs the dependencies,
// because npm does not install them.
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
