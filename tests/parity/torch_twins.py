"""Networks of torch's, filled as ours are."""

import tiny_networks as tiny
import torch


def filled(network: torch.nn.Module, shapes: dict) -> torch.nn.Module:
    """Fills a network with the entries that ours has; names and shapes have to agree."""
    entries = tiny.entries_of(shapes)
    network.load_state_dict({name: torch.from_numpy(entry) for name, entry in entries.items()})
    return network.eval()
