--- @include "includes/refuse"
--- @include "includes/stored"
-- What was appended to a context since its body was written: a list of segments, each with its own digest, and their
-- chain, chain(n) = sha1(chain(n-1) .. digest(n)). `root` is the chain the body stands at, `shape` the sequence number
-- of the last write that changed a type somewhere in the data. Segment k of the list is write number seq - segs + k.
--
-- ERR    LKCORRUPT          a field of ours holds something else: key
local function grown_of(key, digest, seq, shape, chain, segs, segs_bytes, segs_raw)
  if not seq or not (chain or digest) then refuse('CORRUPT', 'key=ctx') end
  local grown = {
    first = not shape, shape = shape or seq, chain = chain or digest,
    count = stored('ctx', segs), bytes = stored('ctx', segs_bytes), raw = stored('ctx', segs_raw),
  }
  if redis.call('LLEN', key) ~= grown.count and grown.count ~= 0 then refuse('CORRUPT', 'key=segs') end
  return grown
end
