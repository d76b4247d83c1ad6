//! The rivals behind the protocol, by the names of their rows.

use super::{AdaptiveForest, HalfSpaceTrees, Method, OnlineForest, Reading};

/// Every rival of a stream, in the order of the table.
pub const RIVALS: [Method; 4] = [
    Method {
        name: "Adaptive Isolation Forest, 100 trees",
        make: |width, seed| Box::new(AdaptiveForest::new(width, seed)),
    },
    Method {
        name: "Online Isolation Forest, 32 trees, depth as its code (log4)",
        make: |width, seed| Box::new(OnlineForest::new(width, Reading::Code, seed)),
    },
    Method {
        name: "Online Isolation Forest, 32 trees, depth as its paper (log2)",
        make: |width, seed| Box::new(OnlineForest::new(width, Reading::Paper, seed)),
    },
    Method {
        name: "Half-Space Trees, 25 of height 15",
        make: |width, seed| Box::new(HalfSpaceTrees::new(width, seed)),
    },
];
