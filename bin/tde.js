#!/usr/bin/env node
import { main } from "../dist/bundle/tde.js";

await main(process.argv);
