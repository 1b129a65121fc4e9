/**
 * What an encryption is asked for, and what it tells.
 */
import type { BytePath } from "../bytes/byte-path.ts";
import type { ProofReport } from "./proof.ts";
import type { Survey } from "./survey.ts";

export interface EncryptOptions {
  readonly root: BytePath;
  readonly wal: "sealed" | "skip";
  readonly assumeStopped: boolean;
  readonly sealConfig: boolean;
  readonly acceptOlder: boolean;
  readonly dryRun: boolean;
}

export interface EncryptReport {
  readonly outcome: "encrypted" | "already-encrypted" | "dry-run";
  readonly survey: Survey;
  /** Absent when nothing was done. */
  readonly directoryId?: string | undefined;
  readonly epoch?: bigint | undefined;
  readonly keyId?: number | undefined;
  readonly proof?: ProofReport | undefined;
}
