{
  "targets": [
    {
      "target_name": "nodegrad",
      "type": "none",
      "actions": [
        {
          "action_name": "cmake",
          "inputs": ["CMakeLists.txt"],
          "outputs": ["<(PRODUCT_DIR)/nodegrad.node"],
          "action": ["node", "scripts/build.mjs", "release"]
        }
      ]
    }
  ]
}
