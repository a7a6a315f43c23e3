-- What an operator sets on a number and takes away again: a lock (no lease at all), a reserve (no lease
-- but by name). Invariant: bindings and leases on the number go on beneath.

-- Field of StateRecord, NumberChange when it is set and taken away, and where version and sequence stand.
local MARKS = {
  lock = {field = 5, on = 3, off = 4, version = 'lv', sequence = 'ls'},
  reserve = {field = 6, on = 5, off = 6, version = 'rv', sequence = 'rs'},
}

local function mark_set(c, n, kind, record, version)
  n[kind] = record ~= '' and record
  number_save(c, n, version)
  if n[kind] then
    redis.call('HSET', n.key, kind, record)
  else
    redis.call('HDEL', n.key, kind)
  end
end

-- args: number, kind, record ('': take it away), reason, partition of the event, of the record.
-- → sequence to wait for, then as get_number
writes('mark', function(keys, args)
  return with_number(keys, args, function(c, n)
    local kind, record = args[4], args[5]
    local mark = MARKS[kind]
    local sequence
    if (n[kind] ~= false) == (record ~= '') then
      sequence = pending(keys, redis.call('HGET', n.key, mark.sequence))
    else
      mark_set(c, n, kind, record)
      number_tell(c, n, tonumber(args[7]), n[kind] and mark.on or mark.off, args[6])
      keep(c, tonumber(args[8]), kind .. '/' .. n.id, n[kind] and wire_bytes(mark.field, record),
        n.version)
      sequence = commit(c)
      redis.call('HSET', n.key, mark.version, whole(n.version), mark.sequence, sequence)
    end
    return {'OK', sequence, number_answer(c, n)}
  end)
end)
