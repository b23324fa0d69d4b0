/** What a training run needs around its loop. */
export {
  type CheckpointParts,
  loadCheckpoint,
  type Resumable,
  type Stateful,
  saveCheckpoint,
} from './checkpoint.js';
