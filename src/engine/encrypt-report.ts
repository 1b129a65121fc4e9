/**
 * What an encryption is asked for, and what it tells.
 */
import type { BytePath } from "../bytes/byte-path.ts";
import type { WalMode } from "../format/manifest-header.ts";
import type { Scope } from "../format/scope.ts";
import type { AcceptedFile } from "./accepted-changes.ts";
import type { ProofReport } from "./proof.ts";
import type { ScopeSelection } from "./scope-request.ts";
import type { Survey } from "./survey.ts";

export interface EncryptOptions {
  readonly root: BytePath;
  /** Which relations; everything else is treated the same whatever they are. */
  readonly scope: ScopeSelection;
  readonly wal: WalMode;
  readonly assumeStopped: boolean;
  readonly sealConfig: boolean;
  readonly acceptOlder: boolean;
  /** Encrypting again: pg_wal and tablespaces may lead elsewhere than when the directory was encrypted. */
  readonly acceptMoved?: boolean | undefined;
  /** Encrypting again: configuration files to take as they are now, whatever the manifest says of them. */
  readonly acceptChanged: readonly BytePath[];
  readonly dryRun: boolean;
}

export interface EncryptReport {
  readonly outcome: "encrypted" | "already-encrypted" | "dry-run";
  readonly survey: Survey;
  /** What is encrypted now, or would be. */
  readonly scope: Scope;
  /** Absent when nothing was done. */
  readonly directoryId?: string | undefined;
  readonly epoch?: bigint | undefined;
  readonly keyId?: number | undefined;
  readonly proof?: ProofReport | undefined;
  /** Configuration that was not what the manifest said, and that the new one takes as it is. */
  readonly accepted?: readonly AcceptedFile[] | undefined;
}
