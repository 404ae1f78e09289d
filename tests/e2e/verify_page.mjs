// Runs the script of docs/verify.html: node verify_page.mjs KEY EXPORT [CHECKPOINT...]; prints what it found as JSON.
import fs from "node:fs";
import vm from "node:vm";
import { webcrypto } from "node:crypto";

const page = fs.readFileSync(new URL("../../docs/verify.html", import.meta.url), "utf8");
const context = vm.createContext({ crypto: webcrypto, TextEncoder, TextDecoder, Uint8Array, atob, console });
vm.runInContext(page.match(/<script>([\s\S]*)<\/script>/)[1], context);
const [key, file, ...kept] = process.argv.slice(2);
context.key = key, context.chunks = [new Uint8Array(fs.readFileSync(file))], context.kept = kept.map(name => fs.readFileSync(name, "utf8"));
console.log(JSON.stringify(await vm.runInContext("verifyExport(chunks, key, kept)", context)));
